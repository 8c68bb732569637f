import { registerCompletionHandler } from 'ava';

/** Far longer than what a test has ended takes to be gone, also on a busy machine. */
const GONE_MS = 60_000;

// AVA waits for the process of a test file, however long something keeps it alive that a test has left open. AVA loads this
// before each test file (package.json).
registerCompletionHandler(() => {
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().filter((each) => each !== 'Timeout');
    console.error(`All tests of this file have ended, and left open: ${open.join(', ') || 'a timer'}`);
    process.exit();
  }, GONE_MS).unref();
});
