import test from 'ava';
import { asksForTraces } from '../../src/tracing/asks-for-traces.js';
import { hideSecrets } from '../../src/tracing/hide-secrets.js';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };

test('traces are asked for by where they go, unless they are turned off', (t) => {
  for (const env of [
    ENDPOINT,
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:4318/v1/traces' },
    { OTEL_TRACES_EXPORTER: 'otlp' },
    { ...ENDPOINT, OTEL_SDK_DISABLED: 'false' },
  ])
    t.true(asksForTraces(env), JSON.stringify(env));
  for (const env of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' },
    { OTEL_SERVICE_NAME: 'x' },
    { ...ENDPOINT, OTEL_SDK_DISABLED: 'TRUE' },
    { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' },
  ])
    t.false(asksForTraces(env), JSON.stringify(env));
});

test('what headers and addresses of a collector hold is hidden, whole and in parts', (t) => {
  const env = {
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=abcdefgh,x-key=12345678',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://user:password@host',
    OTEL_SERVICE_NAME: 'service',
  };
  t.is(
    hideSecrets('abcdefgh, 12345678 at https://user:password@host of service', env),
    '***, *** at *** of service',
  );
});
