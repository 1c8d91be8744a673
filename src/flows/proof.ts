import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { RefreshFamily, UserRecord } from '../store/store.ts'
import type { Context } from './context.ts'

/**
 * That a user has proved who they are. Made by this library only; whatever begins a session asks for one, so that
 * there is no way to a session around the second factor, and a forgotten `await` is an error, not a pass.
 */
export interface Proof {
  /** The user who proved it. */
  readonly userId: string
  /**
   * `first_factor`: the user has no second factor, and the host vouched for the first. `trusted_device`: the user has
   * one, and proved it on this device some days ago; `amr` claims the first only.
   */
  readonly method: SecondFactorMethod | 'first_factor' | 'trusted_device'
  /** Authentication method references, RFC 8176 §2: `["pwd","otp","mfa"]`; with a backup code `["pwd","mfa"]`. */
  readonly amr: readonly string[]
  /** Not before the user's `changedAt`: a proof given in the second of a change, and after it, counts. */
  readonly verifiedAt: UnixSeconds
  /** Counts the changes of the user's factors and credentials; the next change makes the proof outdated. */
  readonly generation: number
  /** Unused backup codes, when the proof used one up; otherwise null. */
  readonly backupCodesRemaining: number | null
}

/** Which service made a proof: two in one process may both have a user `1`. */
const makers = new WeakMap<Proof, object>()

/**
 * The refresh token family that began in the same write in which the code of a proof was spent: whoever issues tokens for the
 * proof uses it, once, instead of another write.
 */
const families = new WeakMap<Proof, RefreshFamily>()

export function takeFamily(proof: Proof): RefreshFamily | null {
  const family = families.get(proof) ?? null
  families.delete(proof)
  return family
}

/** The one place where a proof is made. `user` is the user as of the proof; `family`: began together with it. */
export function makeProof(
  { service }: Context,
  proved: Omit<Proof, 'verifiedAt' | 'generation'>,
  { generation, changedAt }: UserRecord,
  now: UnixSeconds,
  family: RefreshFamily | null = null,
): Proof {
  const verifiedAt = Math.max(now, changedAt)
  const made = Object.freeze({ ...proved, amr: Object.freeze([...proved.amr]), verifiedAt, generation })
  makers.set(made, service)
  if (family) families.set(made, family)
  return made
}

/**
 * @throws TypeError when `proof` is anything that this service did not make: a promise, `true`, a look-alike, or a proof
 * of another service, whose users are others
 */
export function checkProof({ service }: Context, proof: Proof): void {
  const maker = makers.get(proof)
  if (maker === undefined) throw new TypeError('not a Proof created by totp-kit: is an await missing?')
  if (maker !== service) throw new TypeError('this Proof was created by another service')
}

/** How a session began, without what only a second factor of ours adds; `pwd` where the host does not say. */
export function firstFactorOf({ amr }: { amr?: readonly string[] | undefined }): readonly string[] {
  return (amr ?? ['pwd']).filter((method) => method !== 'mfa' && method !== 'otp')
}

/** `amr` of a session that began with `firstFactor` and has proved a second one (RFC 8176 §2). */
export function withSecondFactor(firstFactor: readonly string[], method: SecondFactorMethod): readonly string[] {
  return [...new Set([...firstFactor, ...(method === 'totp' ? ['otp'] : []), 'mfa'])]
}
