// Runs in a real browser: the official OFREP web provider, and what the driver asks it.
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

const METHODS = {
  Boolean: 'getBooleanDetails',
  String: 'getStringDetails',
  Integer: 'getNumberDetails',
  Float: 'getNumberDetails',
  Object: 'getObjectDetails',
};

const changes = [];

window.connect = async ({ baseUrl, selector, context }) => {
  const headers = selector === undefined ? [] : [['flagd-selector', selector]];
  // Without the cache of the browser, so that every answer is the server's.
  const provider = new OFREPWebProvider({ baseUrl, headers, cacheMode: 'disabled' });
  OpenFeature.addHandler(ProviderEvents.ConfigurationChanged, (event) => changes.push({ flags: event?.flagsChanged ?? [] }));
  await OpenFeature.setContext(context);
  await OpenFeature.setProviderAndWait(provider);
};

window.evaluate = async ({ type, key, default: fallback, context }) => {
  await OpenFeature.setContext(context);
  const details = OpenFeature.getClient()[METHODS[type]](key, fallback);
  return {
    value: details.value,
    variant: details.variant ?? null,
    reason: details.reason ?? null,
    errorCode: details.errorCode ?? null,
    errorMessage: details.errorMessage ?? null,
    metadata: details.flagMetadata ?? {},
  };
};

// The next change that the provider announced; null when none comes in time.
window.takeChange = async (timeoutMs) => {
  const until = Date.now() + timeoutMs;
  while (changes.length === 0 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return changes.shift() ?? null;
};
