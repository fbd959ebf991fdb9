// Evaluate flags with the official Go flagd provider, as a client driver (see ../README.md).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const providerModule = "github.com/open-feature/go-sdk-contrib/providers/flagd"

type config struct {
	Host       string
	Port       uint16
	DeadlineMs int
	Selector   string
	Resolver   string
	CertPath   string
	Token      string
}

// Sent with every call, by TLS only.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

type question struct {
	Type    string
	Key     string
	Default any
	Context map[string]any
}

type request struct {
	Id        int
	Op        string
	Questions []question
	question
}

type answer struct {
	Value        any            `json:"value"`
	Variant      *string        `json:"variant"`
	Reason       string         `json:"reason"`
	ErrorCode    *string        `json:"errorCode"`
	ErrorMessage *string        `json:"errorMessage"`
	Metadata     map[string]any `json:"metadata"`
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	var options config
	if !read(lines, &options) {
		return
	}
	hello := map[string]any{"ready": true, "error": nil, "client": "go " + version()}
	if err := connect(options); err != nil {
		hello["ready"], hello["error"] = false, err.Error()
	}
	say(hello)
	client := openfeature.NewClient("driver")
	for {
		var asked request
		if !read(lines, &asked) {
			break
		}
		if asked.Op == "evaluateMany" {
			answers := make([]answer, 0, len(asked.Questions))
			for _, each := range asked.Questions {
				answers = append(answers, evaluate(client, each))
			}
			say(map[string]any{"id": asked.Id, "answers": answers})
		} else {
			say(struct {
				Id int `json:"id"`
				answer
			}{asked.Id, evaluate(client, asked.question)})
		}
	}
	// The provider's routines are not waited for: the end of the input ends the process.
}

func connect(options config) error {
	if options.Resolver != "in-process" {
		return fmt.Errorf("this provider speaks Connect in RPC mode, not gRPC; only in-process is tested")
	}
	given := []flagd.ProviderOption{
		flagd.WithInProcessResolver(),
		flagd.WithHost(options.Host),
		flagd.WithPort(options.Port),
		flagd.WithDeadline(options.DeadlineMs),
	}
	if options.Selector != "" {
		given = append(given, flagd.WithSelector(options.Selector))
	}
	if options.Token != "" {
		secure, err := credentials.NewClientTLSFromFile(options.CertPath, "")
		if err != nil {
			return err
		}
		given = append(given, flagd.WithGrpcDialOptionsOverride([]grpc.DialOption{
			grpc.WithTransportCredentials(secure),
			grpc.WithPerRPCCredentials(bearer(options.Token)),
		}))
	}
	provider, err := flagd.NewProvider(given...)
	if err != nil {
		return err
	}
	return openfeature.SetProviderAndWait(provider)
}

func evaluate(client *openfeature.Client, asked question) answer {
	unit, _ := asked.Context["targetingKey"].(string)
	delete(asked.Context, "targetingKey")
	attributes := openfeature.NewEvaluationContext(unit, asked.Context)
	ctx := context.Background()
	// An error is told in the details too.
	switch asked.Type {
	case "Boolean":
		details, _ := client.BooleanValueDetails(ctx, asked.Key, asked.Default.(bool), attributes)
		return told(details.Value, details.EvaluationDetails)
	case "String":
		details, _ := client.StringValueDetails(ctx, asked.Key, asked.Default.(string), attributes)
		return told(details.Value, details.EvaluationDetails)
	case "Integer":
		details, _ := client.IntValueDetails(ctx, asked.Key, int64(asked.Default.(float64)), attributes)
		return told(details.Value, details.EvaluationDetails)
	case "Float":
		details, _ := client.FloatValueDetails(ctx, asked.Key, asked.Default.(float64), attributes)
		return told(details.Value, details.EvaluationDetails)
	default:
		details, _ := client.ObjectValueDetails(ctx, asked.Key, asked.Default, attributes)
		return told(details.Value, details.EvaluationDetails)
	}
}

func told(value any, details openfeature.EvaluationDetails) answer {
	return answer{
		Value:        value,
		Variant:      orNull(details.Variant),
		Reason:       string(details.Reason),
		ErrorCode:    orNull(string(details.ErrorCode)),
		ErrorMessage: orNull(details.ErrorMessage),
		Metadata:     details.FlagMetadata,
	}
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func version() string {
	if built, ok := debug.ReadBuildInfo(); ok {
		for _, each := range built.Deps {
			if each.Path == providerModule {
				return each.Version
			}
		}
	}
	return "of unknown version"
}

func read(lines *bufio.Reader, into any) bool {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return false
	}
	if err := json.Unmarshal(line, into); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	return true
}

func say(message any) {
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}
