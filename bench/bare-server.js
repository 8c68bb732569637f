/** The baseline of the benchmark: amqplib alone with the same guarantee, a confirmed reply and then the ack. */
import { connect } from 'amqplib';

const [url = '', queue = ''] = process.argv.slice(2);
const connection = await connect(url, { noDelay: true });
const incoming = await connection.createChannel();
const outgoing = await connection.createConfirmChannel();
await incoming.assertQueue(queue, { durable: true });
await incoming.prefetch(200);
await incoming.consume(queue, (message) => {
  if (message === null) return;
  const request = JSON.parse(message.content.toString());
  const { number } = request.request_body.action_parameters;
  const reply = { ...request, status: 'completed', response_body: { number } };
  const { replyTo, correlationId, deliveryMode } = message.properties;
  const options = {
    correlationId,
    contentType: 'application/json',
    persistent: deliveryMode === 2,
    mandatory: true,
  };
  outgoing.publish('', String(replyTo), Buffer.from(JSON.stringify(reply)), options, () =>
    incoming.ack(message),
  );
});
process.stdout.write('ready\n');
