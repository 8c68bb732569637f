import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { SETTINGS } from '../../src/settings/settings.js';
import { containerTools } from '../image/container-tools.js';
import { inRepository } from '../support/repository.js';

/** Of the shutdown, after the time that requests have. */
const END_SECONDS = 5;

const tools = await containerTools('the Quadlet');
if (tools !== undefined) {
  test('Podman makes a unit of the Quadlet that runs a read-only container without rights, and stops it after its requests', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'quadlet-'));
    t.teardown(() => rm(folder, { recursive: true }));
    await copyFile(inRepository('systemd/fleet-manager.container'), join(folder, 'fleet-manager.container'));
    // It fails when it does not know a key.
    const { stdout } = await promisify(execFile)(join(tools, 'quadlet'), ['-dryrun', '-no-kmsg-log'], {
      env: { ...process.env, QUADLET_UNIT_DIRS: folder },
    });
    t.regex(stdout, /^---fleet-manager\.service---$/m);
    const [command = ''] = /^ExecStart=.*$/m.exec(stdout) ?? [];
    for (const option of [
      '--read-only',
      '--cap-drop all',
      '--security-opt=no-new-privileges',
      '--user 65532:65532',
      // The image has no program that notifies systemd.
      '--sdnotify=conmon',
      '--health-cmd "[\\"fleet-manager\\", \\"health\\"]"',
    ])
      t.true(command.includes(` ${option} `), `${option} in ${command}`);
    const [, grace] = /--stop-timeout=(\d+)/.exec(command) ?? [];
    const [, limit] = /^TimeoutStopSec=(\d+)$/m.exec(stdout) ?? [];
    t.true(Number(grace) >= Number(SETTINGS.shutdownGraceMs.default) + END_SECONDS);
    t.true(Number(limit) > Number(grace));
    t.regex(stdout, /^RestartPreventExitStatus=2$/m);
  });
}
