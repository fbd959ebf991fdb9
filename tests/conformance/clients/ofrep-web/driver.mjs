// Evaluates flags with the official OFREP web provider in a headless Chromium, as a client driver (see ../README.md).
//
// The first argument is the folder that has node_modules and bundle.js, the second is the browser.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, executablePath] = process.argv.slice(2);
const require = createRequire(folder + '/');
const { chromium } = require('playwright-core');
const { dependencies } = require('./package.json');

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');

// The page has an origin of its own, so that what it asks the server goes across origins, as in life.
const bundle = readFileSync(folder + '/bundle.js');
const pages = createServer((request, response) => {
  const isScript = request.url === '/bundle.js';
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
  response.end(isScript ? bundle : '<!doctype html><title>flags</title><script src="/bundle.js"></script>');
});
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));

// No sandbox: continuous integration runs as root, where Chromium has none.
const browser = await chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage();
page.on('console', (message) => console.error(message.text()));
page.on('pageerror', (error) => console.error(String(error)));
page.on('response', (response) => console.error(response.request().method(), response.status(), response.url()));

let baseUrl;

async function connect(config) {
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  baseUrl = `http://${config.host}:${config.port}`;
  const context = config.context ?? {};
  await page.evaluate((options) => window.connect(options), {
    baseUrl,
    selector: config.selector,
    token: config.token,
    context,
  });
}

async function answer(message) {
  switch (message.op) {
    case 'evaluate':
      return await page.evaluate((request) => window.evaluate(request), message);
    case 'askTwice':
      return { statuses: await page.evaluate((url) => window.askTwice(url), baseUrl) };
    case 'take':
      return { event: await page.evaluate((timeoutMs) => window.takeChange(timeoutMs), message.timeoutMs) };
    default:
      return { error: `no such operation: ${message.op}` };
  }
}

let connected = false;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (connected) {
    say({ id: message.id, ...(await answer(message)) });
    continue;
  }
  let error = null;
  try {
    await connect(message);
  } catch (failure) {
    error = String(failure);
  }
  connected = true;
  const client = `ofrep-web ${dependencies['@openfeature/ofrep-web-provider']}, Chromium ${browser.version()}`;
  say({ ready: error === null, error, client });
}
await browser.close();
pages.close();
process.exit(0);
