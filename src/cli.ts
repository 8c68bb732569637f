#!/usr/bin/env node
import { loadBundle } from './bundle.js';

const { main } = await (loadBundle()?.commands() ?? import('./commands/main.js'));
await main();
