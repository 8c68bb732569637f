/** What a start can cost at the least: Node.js and amqplib alone, which connect, assert a queue and consume from it. */
import { connect } from 'amqplib';

const [url = '', queue = ''] = process.argv.slice(2);
const connection = await connect(url, { noDelay: true });
const channel = await connection.createChannel();
await channel.assertQueue(queue, { durable: true });
await channel.consume(queue, (message) => message !== null && channel.ack(message));
process.stderr.write('consuming\n');
