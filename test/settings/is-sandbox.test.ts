import test from 'ava';
import { isSandbox } from '../../src/settings/is-sandbox.js';
import { INSTALLATION, read } from '../support/settings.js';

test('the service is a sandbox unless a broker or an installation is configured', (t) => {
  t.true(isSandbox(read({})));
  t.true(isSandbox(read({ HTTP_HOST: 'localhost', QUEUE_NAME: 'requests' })));
  t.false(isSandbox(read({ AMQP_URL: 'amqp://localhost' })));
  t.false(isSandbox(read(INSTALLATION)));
});
