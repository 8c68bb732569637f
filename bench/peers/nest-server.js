/**
 * NestJS's RabbitMQ microservice. Its default acknowledges a request when it is delivered; here the handler does it, before
 * the reply is sent, as NestJS's documentation shows. So a request can be lost between the two. Nothing waits for the
 * confirm of the reply, which is not persistent. It checks no parameters, and logs no request.
 */
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, MessagePattern, Payload, Transport } from '@nestjs/microservices';

const [url = '', queue = ''] = process.argv.slice(2);

class PingController {
  ping({ number }, context) {
    context.getChannelRef().ack(context.getMessage());
    return { number };
  }
}

// What decorators do in TypeScript.
Controller()(PingController);
const ping = Object.getOwnPropertyDescriptor(PingController.prototype, 'ping');
MessagePattern('ping')(PingController.prototype, 'ping', ping);
Payload()(PingController.prototype, 'ping', 0);
Ctx()(PingController.prototype, 'ping', 1);

// oxlint-disable-next-line typescript/no-extraneous-class -- NestJS needs a class for it
class PingModule {}
Module({ controllers: [PingController] })(PingModule);

const app = await NestFactory.createMicroservice(PingModule, {
  transport: Transport.RMQ,
  options: {
    urls: [url],
    queue,
    queueOptions: { durable: true },
    noAck: false,
    prefetchCount: 200,
    socketOptions: { connectionOptions: { noDelay: true } },
  },
  logger: ['error', 'warn'],
});
await app.listen();
