import countUnitsAction from './count-units.js';

/** The actions that `PLUGINS` adds to a service. */
export default [countUnitsAction];
