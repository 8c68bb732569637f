import type { Clock as LibraryClock } from '../lib/clock.js';
import type { Token } from './token.js';

export type Clock = LibraryClock;
export const Clock: Token<Clock> = Symbol.for('fleet-manager:Clock');
