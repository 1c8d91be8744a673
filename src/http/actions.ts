import type { UnixSeconds } from '../clock.ts'
import type { BodyOf, OperationId, ReplyOf } from '../contract/endpoints.ts'
import { TotpError } from '../errors.ts'
import { listBackupCodes, rotateBackupCodes } from '../flows/backup-codes.ts'
import { answerChallenge, startLogin } from '../flows/challenge.ts'
import type { Context } from '../flows/context.ts'
import { confirmTotpSetup, createTotpSetup } from '../flows/enrolment.ts'
import { type Proof, proveCode, type TypedCode } from '../flows/proof.ts'
import { disableTotp } from '../flows/removal.ts'
import { getStatus } from '../flows/status.ts'
import { type Caller, firstFactorOf, grantStepUp } from '../flows/step-up.ts'
import type { JwtTokens } from '../jwt/index.ts'

/** What an action has beside its body. */
export interface Call {
  ctx: Context
  /** @throws TotpError `unauthenticated` when the host knows no caller */
  caller: Caller
  jwt: JwtTokens
  verified: (proof: Proof) => Promise<void>
}

type Action<Id extends OperationId> = (call: Call, body: BodyOf<Id>) => Promise<ReplyOf<Id>>

/** What each endpoint does: calls one flow and puts the answer into the wire's words. */
export const actions: { [Id in OperationId]: Action<Id> } = {
  async createTotpSetup({ ctx, caller }, { input_code, name = null }) {
    const grant = await grantStepUp(ctx, caller, input_code)
    return createTotpSetup(ctx, grant, { accountName: caller.accountName, name })
  },

  async confirmTotpSetup({ ctx, caller }, { input_code: code }) {
    const keepFamilyId = caller.sessionId ?? null
    return { backup_codes: await confirmTotpSetup(ctx, { userId: caller.id, code, keepFamilyId }) }
  },

  async disableTotp({ ctx, caller }, { input_code }) {
    await disableTotp(ctx, await grantStepUp(ctx, caller, input_code), caller.sessionId ?? null)
    return null
  },

  async rotateBackupCodes({ ctx, caller }, { input_code }) {
    return { backup_codes: await rotateBackupCodes(ctx, await grantStepUp(ctx, caller, input_code)) }
  },

  async getStatus({ ctx, caller }) {
    const { user, authenticators, backupCodesRemaining, lockedUntil } = await getStatus(ctx, caller.id)
    return {
      is_totp_enabled: user.confirmedAt !== null,
      confirmed_at: isoTime(user.confirmedAt),
      backup_codes_remaining: backupCodesRemaining,
      authenticators: authenticators.map(({ id, name, createdAt, lastUsedAt }) => ({
        id,
        name,
        created_at: isoTime(createdAt),
        last_used_at: isoTime(lastUsedAt),
      })),
      trusted_devices: 0,
      // A lock that time does not open reads as the last moment that the notation has.
      locked_until: lockedUntil === 'forever' ? '9999-12-31T23:59:59Z' : isoTime(lockedUntil),
    }
  },

  async verifySecondFactor({ ctx, caller, verified }, body) {
    const question = { userId: caller.id, challenge: null, firstFactor: firstFactorOf(caller) }
    const proof = await proveCode(ctx, typedCodeOf(body), question)
    await verified(proof)
    return { verified_at: isoTime(proof.verifiedAt), amr: [...proof.amr] }
  },

  async listBackupCodes({ ctx, caller }) {
    const codes = await listBackupCodes(ctx, await grantStepUp(ctx, caller))
    return { backup_codes: codes.map(({ code, usedAt }) => ({ code, used_at: isoTime(usedAt) })) }
  },

  async createTokens({ ctx, jwt }, { username, password }) {
    const userId = await jwt.authenticate(username, password)
    if (userId === null) throw new TotpError('invalid_credentials')
    const login = await startLogin(ctx, userId)
    if (login.isTotpEnabled) return { is_totp_enabled: true, totp_challenge_token: login.challengeToken }
    return { is_totp_enabled: false, ...(await jwt.issueTokens(login.proof)) }
  },

  async answerChallenge({ ctx, jwt }, body) {
    const proof = await answerChallenge(ctx, body.totp_challenge_token, typedCodeOf(body))
    const tokens = await jwt.issueTokens(proof)
    const { backupCodesRemaining } = proof
    return backupCodesRemaining === null ? tokens : { ...tokens, backup_codes_remaining: backupCodesRemaining }
  },

  refreshTokens: ({ jwt }, { refresh }) => jwt.refreshTokens(refresh),

  async verifyToken({ jwt }, { token }) {
    await jwt.verifyToken(token)
    return {}
  },

  async endFamily({ jwt }, { refresh }) {
    await jwt.endFamily(refresh)
    return null
  },
}

function typedCodeOf({ otp_code, backup_code }: { otp_code?: string | undefined; backup_code?: string | undefined }) {
  const typed: TypedCode =
    otp_code === undefined ? { method: 'backup_code', code: backup_code ?? '' } : { method: 'totp', code: otp_code }
  return typed
}

function isoTime<At extends UnixSeconds | null>(at: At): At extends null ? null : string
function isoTime(at: UnixSeconds | null): string | null {
  return at === null ? null : new Date(at * 1000).toISOString().replace('.000Z', 'Z')
}
