import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const requireOwn = (file: string) => require(join(dirname(require.resolve('amqplib')), file));

/** Files that amqplib does not export. scripts/bundle.js has another text for this module. */
export const loadCodec = () => requireOwn('lib/codec.js');
export const loadConnection = () => requireOwn('lib/connection.js');
