// The service loads this file; `npm run build` makes what it exports.
export { default } from './dist/index.js';
