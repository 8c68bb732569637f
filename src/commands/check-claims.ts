import { maskedUrl } from '../lib/masked-url.js';
import type { Components } from '../composition.js';
import { type Finding, ok, runCheck } from './finding.js';

/** Checks whether the claim store responds, and whether the service may write to it. It changes nothing there. */
export async function checkClaims(
  store: Pick<NonNullable<Awaited<ReturnType<Components['claims']>>>, 'check'>,
  urls: readonly string[],
  limitMs: number,
): Promise<Finding> {
  return runCheck(
    limitMs,
    () =>
      'check CLAIMS_ETCD_URL, CLAIMS_ETCD_USER and CLAIMS_ETCD_PASSWORD; the user needs readwrite on the prefix /fleet-manager/: etcdctl role grant-permission ROLE --prefix=true readwrite /fleet-manager/',
    async (signal) => {
      await store.check(signal);
      return ok(`${urls.map(maskedUrl).join(', ')} responds, and the service may write to it`);
    },
  );
}
