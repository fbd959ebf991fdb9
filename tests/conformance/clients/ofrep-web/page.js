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

window.connect = async ({ baseUrl, selector, token, context }) => {
  const headers = selector === undefined ? [] : [['flagd-selector', selector]];
  if (token !== undefined) {
    headers.push(['authorization', `Bearer ${token}`]);
  }
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

// Asks twice as a page may that is not of the server's origin, the second time with the entity tag of the first answer.
window.askTwice = async (baseUrl) => {
  const ask = (more) =>
    fetch(`${baseUrl}/ofrep/v1/evaluate/flags`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer x', 'x-api-key': 'x', ...more },
      body: '{}',
    });
  const first = await ask({});
  const second = await ask({ 'if-none-match': first.headers.get('etag') });
  return [first.status, second.status];
};

// The next change that the provider announced; null when none comes in time.
window.takeChange = async (timeoutMs) => {
  const until = Date.now() + timeoutMs;
  while (changes.length === 0 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return changes.shift() ?? null;
};
