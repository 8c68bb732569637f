export type { ActionDescription } from '../api/action-description.js';
