// Evaluate flags with the official Java flagd provider, as a client driver (see ../README.md).

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.openfeature.contrib.providers.flagd.Config;
import dev.openfeature.contrib.providers.flagd.FlagdOptions;
import dev.openfeature.contrib.providers.flagd.FlagdProvider;
import dev.openfeature.sdk.Client;
import dev.openfeature.sdk.FlagEvaluationDetails;
import dev.openfeature.sdk.MutableContext;
import dev.openfeature.sdk.MutableStructure;
import dev.openfeature.sdk.OpenFeatureAPI;
import dev.openfeature.sdk.Value;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;

public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String error = connect(JSON.readTree(lines.readLine()));
        var hello = new LinkedHashMap<String, Object>();
        hello.put("ready", error == null);
        hello.put("error", error);
        hello.put("client", "java " + version());
        say(hello);
        Client client = OpenFeatureAPI.getInstance().getClient();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            say(answer(client, JSON.readTree(line)));
        }
        // The provider's threads are not waited for: the end of the input ends the process.
        System.exit(0);
    }

    private static String version() throws Exception {
        String path = "/META-INF/maven/dev.openfeature.contrib.providers/flagd/pom.properties";
        var properties = new Properties();
        try (var stream = FlagdProvider.class.getResourceAsStream(path)) {
            properties.load(stream);
        }
        return properties.getProperty("version");
    }

    private static String connect(JsonNode config) {
        boolean inProcess = config.path("resolver").asText().equals("in-process");
        var options = FlagdOptions.builder()
            .resolverType(inProcess ? Config.Resolver.IN_PROCESS : Config.Resolver.RPC)
            .host(config.get("host").asText())
            .port(config.get("port").asInt())
            .tls(config.path("tls").asBoolean(false))
            .cacheType(config.path("cache").asText("disabled"))
            .deadline(config.get("deadlineMs").asInt());
        if (config.hasNonNull("selector")) {
            options.selector(config.get("selector").asText());
        }
        if (config.hasNonNull("certPath")) {
            options.certPath(config.get("certPath").asText());
        }
        if (config.hasNonNull("token")) {
            var headers = new Metadata();
            var name = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
            headers.put(name, "Bearer " + config.get("token").asText());
            options.clientInterceptors(List.of(MetadataUtils.newAttachHeadersInterceptor(headers)));
        }
        try {
            OpenFeatureAPI.getInstance().setProviderAndWait(new FlagdProvider(options.build()));
            return null;
        } catch (RuntimeException error) {
            // An official client evaluates in the ERROR state too, so the driver goes on and tells.
            return error.toString();
        }
    }

    private static Map<String, Object> answer(Client client, JsonNode request) {
        var answer = new LinkedHashMap<String, Object>();
        answer.put("id", request.get("id").asLong());
        if (request.get("op").asText().equals("evaluateMany")) {
            var answers = new ArrayList<Map<String, Object>>();
            request.get("questions").forEach(question -> answers.add(evaluate(client, question)));
            answer.put("answers", answers);
        } else {
            answer.putAll(evaluate(client, request));
        }
        return answer;
    }

    private static Map<String, Object> evaluate(Client client, JsonNode request) {
        String key = request.get("key").asText();
        JsonNode fallback = request.get("default");
        var context = context(request.get("context"));
        FlagEvaluationDetails<?> details = switch (request.get("type").asText()) {
            case "Boolean" -> client.getBooleanDetails(key, fallback.asBoolean(), context);
            case "String" -> client.getStringDetails(key, fallback.asText(), context);
            case "Integer" -> client.getIntegerDetails(key, fallback.asInt(), context);
            case "Float" -> client.getDoubleDetails(key, fallback.asDouble(), context);
            default -> client.getObjectDetails(key, value(fallback), context);
        };
        var answer = new LinkedHashMap<String, Object>();
        answer.put("value", details.getValue() instanceof Value structured ? plain(structured) : details.getValue());
        answer.put("variant", details.getVariant());
        answer.put("reason", details.getReason());
        answer.put("errorCode", details.getErrorCode() == null ? null : details.getErrorCode().name());
        answer.put("errorMessage", details.getErrorMessage());
        answer.put("metadata", details.getFlagMetadata().asUnmodifiableMap());
        return answer;
    }

    private static MutableContext context(JsonNode attributes) {
        var context = new MutableContext();
        attributes.fields().forEachRemaining(entry -> {
            if (entry.getKey().equals("targetingKey") && entry.getValue().isTextual()) {
                context.setTargetingKey(entry.getValue().asText());
            } else {
                add(context, entry.getKey(), value(entry.getValue()));
            }
        });
        return context;
    }

    private static void add(MutableContext context, String key, Value value) {
        if (value.isBoolean()) {
            context.add(key, value.asBoolean());
        } else if (value.isString()) {
            context.add(key, value.asString());
        } else if (value.isNumber()) {
            context.add(key, value.asDouble());
        } else if (value.isStructure()) {
            context.add(key, value.asStructure());
        } else if (value.isList()) {
            context.add(key, value.asList());
        }
    }

    private static Value value(JsonNode node) {
        if (node.isObject()) {
            var members = new MutableStructure();
            node.fields().forEachRemaining(entry -> members.add(entry.getKey(), value(entry.getValue())));
            return new Value(members);
        }
        if (node.isArray()) {
            var items = new ArrayList<Value>();
            node.forEach(item -> items.add(value(item)));
            return new Value(items);
        }
        if (node.isNumber()) {
            // The SDK knows int and double; a double is what every number is on the wire.
            return new Value(node.asDouble());
        }
        if (node.isBoolean()) {
            return new Value(node.asBoolean());
        }
        return node.isNull() ? new Value() : new Value(node.asText());
    }

    private static Object plain(Value value) {
        if (value.isStructure()) {
            var members = new LinkedHashMap<String, Object>();
            value.asStructure().asMap().forEach((name, member) -> members.put(name, plain(member)));
            return members;
        }
        return value.isList() ? value.asList().stream().map(Driver::plain).toList() : value.asObject();
    }

    private static void say(Map<String, Object> message) throws Exception {
        OUT.println(JSON.writeValueAsString(message));
    }
}
