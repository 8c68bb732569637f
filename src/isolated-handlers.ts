import { NodeWarnings } from './commands/node-warnings.js';
import { openActions } from './composition.js';
import { type ServedHandlers, serveHandlers } from './isolation/handler-server.js';
import type { HandlerSettings } from './isolation/messages.js';
import { deepFrozen } from './lib/deep-frozen.js';
import { systemClock } from './lib/clock.js';
import { Log } from './telemetry/log.js';
import { ProcessOutput } from './telemetry/process-output.js';
import { startTracing } from './tracing/start-tracing.js';
import { startWatchdog, type Watchdog } from './watchdog/watchdog.js';

// The program of a process that runs handlers for the service, which forks it, reads its log and ends it.

/** How the process ends after an uncaught exception: its state is unknown, and its calls run once more, alone. */
const UNCAUGHT_EXIT_CODE = 1;

const warnings = new NodeWarnings();
// These reach every process of the terminal or of the unit; the service decides when this one ends. And without a listener for
// SIGUSR1, Node opens its debugger on a port.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const) process.on(signal, () => {});
let watchdog: Watchdog | undefined;
serveHandlers(open, exit);

async function open(settings: HandlerSettings, onLoading: () => void): Promise<ServedHandlers> {
  const watching = startWatchdog({ seconds: settings.watchdogSeconds, format: settings.log.format });
  watchdog = watching;
  const output = new ProcessOutput();
  const log = Log.create({ ...settings.log, stream: output.logOutput });
  output.logOutput.reportDropped((lines) => log.error('log lines dropped', { lines }));
  warnings.reportTo((warning) => log.warn('Node.js warning', { warning }));
  output.captureTo(log);
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }));
  process.on('uncaughtException', (error) => {
    log.error('uncaught exception', { error });
    exit(UNCAUGHT_EXIT_CODE);
  });
  const watch = {
    ...watching,
    loading: (folder: string) => {
      onLoading();
      return watching.loading(folder);
    },
  };
  const tracing = await startTracing({ hostname: settings.hostname, clock: systemClock, log });
  const { watchUpstream, inTrace } = tracing ?? {};
  // As the service has read them: a file may have changed since.
  const values = new Map(
    Object.entries(settings.pluginSettings).map(([name, each]) => [name, deepFrozen(each)]),
  );
  const actions = await openActions({
    ...settings,
    settings: () => ({ values, problems: [], undeclared: [] }),
    log,
    watch,
    clock: systemClock,
    watchUpstream,
  });
  return {
    catalogue: actions.catalogue,
    logFor: (fields) => log.with(fields),
    clock: systemClock,
    inTrace,
    close: async (withinMs) => {
      // At the same time, as the process is killed when this takes longer.
      await Promise.all([actions.close(withinMs), tracing?.stop(withinMs)]);
    },
  };
}

function exit(code: number): void {
  watchdog?.exitExpected();
  process.exit(code);
}
