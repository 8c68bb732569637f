import { FleetManagerError } from '../client/client.js';
import type { AnswerEnvelope } from '../client/route.js';
import type { ActionDescription } from '../core/action-description.js';
import { schemaOfField } from '../core/json-schema.js';
import { fieldsOf } from '../lib/fields-of.js';
import { traceHeadersIn } from '../lib/trace-context.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { EXIT, printFailure, printSentence } from './call-failure.js';
import { type CallRoute, callRoute, type KnownAction } from './call-routes.js';
import { parametersOf } from './parameter-values.js';
import { onOneLine, printError } from './output.js';
import { formatOf, type OutputOptions, tableStyle } from './output-options.js';
import { printResult } from './print-result.js';
import { UsageError } from './usage-error.js';
import { Interrupted, type Wait, whileWaiting } from './while-waiting.js';

export interface CallArguments extends OutputOptions {
  cluster?: string;
  /** The cluster when none is named, for actions that take one. */
  standardCluster?: string;
  param?: string[];
  params?: string;
  /** Print a reply that is a string unchanged, not as JSON. */
  raw?: boolean;
  idempotencyKey?: string;
  /** Seconds. */
  timeout: number;
}

/** Calls one action and prints the reply. @returns the exit code */
export async function call(
  action: string,
  given: CallArguments,
  source: ConfigurationSource,
): Promise<number> {
  const { raw = false } = given;
  const terminal = process.stdout.isTTY;
  const format = formatOf(given, terminal ? 'table' : 'json');
  if (raw && given.output !== undefined)
    throw new UsageError('--raw prints a string as it is: leave it or --output out');
  const route = callRoute(readConfiguration(source));
  try {
    const { reply, known } = await whileWaiting(action, { route, env: source.env }, async (wait) => {
      const found = await untilAborted(route.describe(action), wait.interrupted);
      return { known: found, reply: await send(action, found, { given, route, source, wait }) };
    });
    const { response_body: body } = reply;
    const details = reply.status === 'completed' ? reply.details : fieldsOf(body).details;
    for (const warning of warningsOf(details)) printError(`warning: ${onOneLine(warning)}\n`);
    if (reply.status !== 'completed') return await printFailure(body, format);
    const style = { ...tableStyle(given, source.env), columns: given.columns };
    await printResult(body, known?.description.result, { format, raw, terminal, style });
    return EXIT.done;
  } catch (error) {
    if (error instanceof Interrupted) {
      printError(error.message);
      return EXIT.interrupted;
    }
    if (!(error instanceof FleetManagerError)) throw error;
    return printSentence({ code: error.code, errors: [error.message] });
  } finally {
    await route.close();
  }
}

async function send(
  action: string,
  known: KnownAction | undefined,
  {
    given,
    route,
    source,
    wait,
  }: { given: CallArguments; route: CallRoute; source: ConfigurationSource; wait: Wait },
): Promise<AnswerEnvelope> {
  const description = known?.description;
  const parameters = parametersOf(description, { params: given.params, param: given.param ?? [] });
  if (description !== undefined && given.columns !== undefined) {
    const { checkColumns } = await import('./table/result-text.js');
    checkColumns(given.columns, description.result);
  }
  wait.subject = [action, ...unitsIn(parameters, description)].join(' ');
  wait.replyMs = given.timeout * 1_000;
  return route.request(action, {
    cluster: given.cluster ?? standardCluster(known, given),
    parameters,
    timeoutMs: wait.replyMs,
    idempotencyKey: given.idempotencyKey,
    resend: description && description.effect === 'read',
    // As programs hand a trace to the commands that they run.
    trace: traceHeadersIn({ traceparent: source.env.TRACEPARENT, tracestate: source.env.TRACESTATE }),
  });
}

function standardCluster(
  known: KnownAction | undefined,
  { standardCluster: standard }: Pick<CallArguments, 'standardCluster'>,
): string | undefined {
  if (known === undefined) return standard;
  const { target } = known.description;
  if (target === 'none') return undefined;
  return standard ?? (target === 'cluster' ? known.cluster : undefined);
}

/** The units that the parameters name. Others may be secrets. */
function unitsIn(
  parameters: Readonly<Record<string, unknown>>,
  description: ActionDescription | undefined,
): string[] {
  if (description === undefined) return [];
  return Object.entries(parameters).flatMap(([name, value]) =>
    schemaOfField(description.parameters, name)?.format === 'unit-name' ? [String(value)] : [],
  );
}

/** The warnings in the details of a reply. */
function warningsOf(details: unknown): string[] {
  const { warnings } = fieldsOf(details);
  return Array.isArray(warnings) ? warnings.map(String) : [];
}
