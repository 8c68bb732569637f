import test from 'ava';
import { loginEnded } from '../../src/ssh/ssh-errors.js';

const reasonOf = (said: string) => Object(loginEnded('10.0.0.1', 'core', said).details).reason;

test('a host whose last text begins with that of a machine that starts up or shuts down is not ready', (t) => {
  for (const said of [
    'System is booting up. Unprivileged users are not permitted to log in yet.',
    'System is going down. Unprivileged users are not permitted to log in anymore.',
    '"System is booting up. Please come back later."',
    'Welcome\r\nSystem is going down. Bye.',
  ])
    t.is(reasonOf(said), 'not_ready', said);
});

test('any other last text is that of a refused login', (t) => {
  for (const said of ['', 'System is booting up', 'Access denied: System is going down. Or not.'])
    t.not(reasonOf(said), 'not_ready', said);
});
