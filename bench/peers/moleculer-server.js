/**
 * Moleculer's AMQP transporter with a queue that its workers share. It acknowledges a request after it has written the
 * reply, without a confirm, and the reply is not persistent: a reply that is lost on the way to the broker is lost. It
 * checks the parameters, and logs no request.
 */
import { ServiceBroker } from 'moleculer';

const [url = ''] = process.argv.slice(2);
const broker = new ServiceBroker({
  nodeID: 'bench_server',
  transporter: { type: 'AMQP', options: { url, prefetch: 200, socketOptions: { noDelay: true } } },
  // Requests arrive by the broker's balancing, not by a queue of this node only.
  disableBalancer: true,
  logLevel: 'warn',
});
broker.createService({
  name: 'bench',
  actions: {
    ping: {
      params: { number: 'number|integer' },
      handler: async ({ params }) => ({ number: params.number }),
    },
  },
});
await broker.start();
