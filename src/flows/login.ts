import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { UserRecord } from '../store/store.ts'
import { newChallenge } from './challenge.ts'
import { type Context, checkUserId } from './context.ts'
import { mustEnroll, sealEnrollmentToken } from './enforcement.ts'
import { firstFactorOf, makeProof, type Proof } from './proof.ts'
import { recognizeDevice } from './trusted-devices.ts'

/** What comes after the first factor: `switch` on its `status`. */
export type LoginStart =
  /** The login is complete: start a session. */
  | {
      status: 'complete'
      /** What the session starts with. */
      proof: Proof
      /** The new token of the trusted device that saved the user the code; null: no device did. */
      trustedDevice: string | null
    }
  /** The user must answer the challenge with a code. */
  | {
      status: 'challenge'
      /** The token of the challenge, for `totp.answerChallenge`. */
      challengeToken: string
      /** Seconds for which the token is valid. */
      expiresIn: number
      /** The kinds of code that answer it. */
      methods: readonly SecondFactorMethod[]
      /** Digits of a code of the app. */
      digits: number
    }
  /** The user must have a second factor and has none: the token opens enrollment and nothing else. */
  | {
      status: 'enrollment_required'
      /** The token, for `Authorization: Bearer …` at the endpoints of enrollment. */
      enrollmentToken: string
      /** Seconds for which the token is valid. */
      expiresIn: number
    }

/** What a host may tell of a login. */
export interface FirstFactor {
  /**
   * How the first factor was proved (RFC 8176 §2): `['pwd']` (the default), `['hwk']`, `['fed']` … `mfa` and `otp` are
   * left out: they say that we have seen a second factor.
   */
  amr?: readonly string[] | undefined
  /** The token of a trusted device, if the client sent one. Default: none, the login needs a code. */
  trustedDevice?: string | undefined
}

const METHODS = ['totp', 'backup_code'] as const

/** The first factor is right, says the host: what next? */
export async function startLogin(
  ctx: Context,
  userId: string,
  firstFactor: FirstFactor,
  now: UnixSeconds,
): Promise<LoginStart> {
  checkUserId(userId)
  const { trustedDevice } = firstFactor
  const amr = firstFactorOf(firstFactor)
  const user = await ctx.store.getUser(userId)
  const { confirmedAt, generation } = user
  if (confirmedAt === null) {
    if (await mustEnroll(ctx, userId, now)) {
      const enrollmentToken = await sealEnrollmentToken(ctx, userId, generation, now)
      return { status: 'enrollment_required', enrollmentToken, expiresIn: ctx.policy.pendingEnrollmentSeconds }
    }
    const proof = firstFactorProof(ctx, { userId, method: 'first_factor', amr }, user, now)
    return { status: 'complete', proof, trustedDevice: null }
  }
  const device = trustedDevice === undefined ? null : await recognizeDevice(ctx, userId, trustedDevice, now)
  if (device === null) {
    const { challengeTokenSeconds: expiresIn, totp } = ctx.policy
    const challengeToken = await newChallenge(ctx, { userId, generation, amr }, now)
    return { status: 'challenge', challengeToken, expiresIn, methods: METHODS, digits: totp.digits }
  }
  const proof = firstFactorProof(
    ctx,
    { userId, method: 'trusted_device', amr },
    { ...user, generation: device.generation },
    now,
  )
  return { status: 'complete', proof, trustedDevice: device.token }
}

/** A proof that claims no second factor: `amr` says what the host vouched for, and step-up is still asked. */
function firstFactorProof(
  ctx: Context,
  given: { userId: string; method: 'first_factor' | 'trusted_device'; amr: readonly string[] },
  user: UserRecord,
  now: UnixSeconds,
): Proof {
  return makeProof(ctx, { ...given, backupCodesRemaining: null }, user, now)
}
