import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';

/**
 * Uses up the file descriptors of this process, so that it can open no file and no socket. Only on Linux, and only where no
 * other test runs in this process.
 * @returns gives them back, at the latest when the test ends
 */
export function useUpFiles(t: Pick<ExecutionContext, 'teardown' | 'throws'>): () => void {
  // So that few files use them up.
  const [, soft = ''] = /^Max open files +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  const limit = (most: string) => execFileSync('prlimit', ['--pid', `${process.pid}`, `--nofile=${most}:`]);
  limit('400');
  const files: number[] = [];
  const giveBack = () => {
    for (const file of files.splice(0)) closeSync(file);
  };
  t.teardown(() => {
    giveBack();
    limit(soft);
  });
  t.throws(
    () => {
      for (;;) files.push(openSync('/dev/null', 'r'));
    },
    { code: 'EMFILE' },
  );
  return giveBack;
}
