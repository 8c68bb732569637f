#!/usr/bin/env node
import { loadBundle } from './bundle.js';

const { main } = loadBundle() ?? (await import('./commands/main.js'));
await main();
