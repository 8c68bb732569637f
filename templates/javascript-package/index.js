import countUnitsAction from './actions/count-units.js';

/** The actions that `PLUGINS` adds to a service. */
export default [countUnitsAction];
