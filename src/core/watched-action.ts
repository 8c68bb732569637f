import { afterwards } from '../lib/afterwards.js';
import type { Activity } from './plugin-watch.js';
import type { PreparedAction } from './prepare-action.js';

/** An action whose activity is told from when its code begins until it ends, also after its call has settled. */
export function watchedAction(action: PreparedAction, activity: Activity): PreparedAction {
  return {
    ...action,
    check: (sent) => {
      activity.began();
      try {
        return action.check(sent);
      } finally {
        activity.ended();
      }
    },
    run: watched(action.run, activity),
    probe: action.probe && watched(action.probe, activity),
    dispose: async () => {
      activity.began();
      try {
        await action.dispose();
      } finally {
        activity.ended();
      }
    },
  };
}

function watched(run: PreparedAction['run'], activity: Activity): PreparedAction['run'] {
  const ended = () => activity.ended();
  return (request, actions) => {
    activity.began();
    try {
      return afterwards(Promise.resolve(run(request, actions)), ended);
    } catch (error) {
      ended();
      return Promise.reject(error);
    }
  };
}
