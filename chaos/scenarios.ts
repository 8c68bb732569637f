import type { Scenario } from './scenario.js';
import { broker } from './scenarios/broker.js';
import { kills } from './scenarios/kills.js';
import { malformed } from './scenarios/malformed.js';
import { million } from './scenarios/million.js';
import { sigterm } from './scenarios/sigterm.js';

export const SCENARIOS: readonly Scenario[] = [kills, broker, sigterm, malformed, million];
