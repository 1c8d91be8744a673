import type { UnixSeconds } from '../clock.ts'
import type { BodyOf, OperationId, ReplyOf } from '../contract/endpoints.ts'
import { TotpError } from '../errors.ts'
import { backupCodesSaved, listBackupCodes, rotateBackupCodes } from '../flows/backup-codes.ts'
import { answerChallenge } from '../flows/challenge.ts'
import type { Context } from '../flows/context.ts'
import { confirmTotpSetup, createTotpSetup } from '../flows/enrollment.ts'
import { startLogin } from '../flows/login.ts'
import { firstFactorOf, type Proof } from '../flows/proof.ts'
import { checkAuthenticator, disableTotp, removeAuthenticator, renameAuthenticator } from '../flows/removal.ts'
import { getStatus, type Status } from '../flows/status.ts'
import { type Caller, type ChangePermit, grantStepUp } from '../flows/step-up.ts'
import {
  checkTrustedDevice,
  currentDevice,
  listTrustedDevices,
  removeTrustedDevice,
  removeTrustedDevices,
  trustDevice,
} from '../flows/trusted-devices.ts'
import { proveCode, type TypedCode } from '../flows/verify-code.ts'
import type { JwtTokens } from '../jwt/index.ts'
import type { Recovery } from '../recovery/index.ts'
import { deviceTokenOf, withDeviceToken } from './device-token.ts'
import type { HeaderLookup } from './message.ts'

/** What an action has beside its body. */
export interface Call {
  /** Announces with the caller's session. */
  ctx: Context
  /** When the request came: the clock is read once. */
  now: UnixSeconds
  /** @throws TotpError `unauthenticated` when the host knows no caller */
  caller: Caller
  /** The caller came with an enrollment token: there is no session yet. */
  isEnrolling: boolean
  /** What the caller's session is known by: `sessionId`, or the enrollment token; null: by nothing. */
  session: string | null
  jwt: JwtTokens
  recovery: Recovery
  /** Tells the host that its session has proved a second factor. */
  verified: (proof: Proof) => Promise<void>
  /** What the path names after the last slash, where its row says `{id}`. */
  id: string
  header: HeaderLookup
  setCookie: (cookie: string) => void
}

type Action<Id extends OperationId> = (call: Call, body: BodyOf<Id>) => Promise<ReplyOf<Id>>

/** What each endpoint does: calls one flow and puts the answer into the wire's words. */
export const actions: { [Id in OperationId]: Action<Id> } = {
  async createTotpSetup(call, { input_code, name = null, resume }) {
    const { ctx, now, caller, session: sessionId } = call
    const grant = await permit(call, input_code)
    const { accountName, issuer } = caller
    const setup = await createTotpSetup(ctx, grant, { accountName, issuer, name, sessionId, resume }, now)
    const { svg, uri, secret, expiresAt, digits, periodSeconds: period, algorithm, replaces } = setup
    const shown = { svg, uri, secret, expires_in: expiresAt - now, digits, period, algorithm }
    return withTokens(call, grant.proof, {
      ...shown,
      issuer: setup.issuer,
      account_name: setup.accountName,
      replaces,
    })
  },

  async confirmTotpSetup(call, { input_code: code }) {
    const { ctx, now, caller, verified } = call
    const { id: userId, sessionId = null } = caller
    const confirmation = { userId, code, sessionId, firstFactor: firstFactorOf(caller) }
    const { backupCodes, proof } = await confirmTotpSetup(ctx, confirmation, now)
    // The codes are shown once: that the session could not be raised must not take them away.
    await verified(proof).catch(ctx.onError)
    return withTokens(call, proof, { backup_codes: backupCodes })
  },

  async disableTotp(call, { input_code }) {
    await disableTotp(call.ctx, await permit(call, input_code), call.caller.sessionId ?? null, call.now)
    return null
  },

  async rotateBackupCodes(call, { input_code }) {
    const grant = await permit(call, input_code)
    return withTokens(call, grant.proof, { backup_codes: await rotateBackupCodes(call.ctx, grant, call.now) })
  },

  async backupCodesSaved({ ctx, now, caller }) {
    await backupCodesSaved(ctx, caller.id, now)
    return null
  },

  async getStatus({ ctx, now, caller }) {
    const { isTotpEnabled, confirmedAt, authenticators, ...status } = await getStatus(ctx, caller.id, now)
    const { backupCodesRemaining, backupCodesSavedAt, pending, trustedDevices, lockedUntil } = status
    const { policy } = ctx
    return {
      is_totp_enabled: isTotpEnabled,
      confirmed_at: isoTime(confirmedAt),
      backup_codes_remaining: backupCodesRemaining,
      backup_codes_saved_at: isoTime(backupCodesSavedAt),
      authenticators: authenticators.map(shownAuthenticator),
      pending: pending && { expires_in: pending.expiresAt - now },
      trusted_devices: trustedDevices,
      // A lock that time does not open reads as the last moment that the notation has.
      locked_until: lockedUntil === 'forever' ? '9999-12-31T23:59:59Z' : isoTime(lockedUntil),
      policy: {
        max_authenticators: policy.maxAuthenticators,
        digits: policy.totp.digits,
        period: policy.totp.periodSeconds,
        step_up_seconds: policy.stepUp === false ? null : policy.stepUp.maxAgeSeconds,
        trusted_device_days: trustedDays(ctx),
        backup_codes_total: policy.backupCodes.count,
        backup_codes_viewable: policy.backupCodes.storage === 'encrypted',
      },
    }
  },

  async verifySecondFactor(call, body) {
    const { ctx, now, caller, verified } = call
    const question = { userId: caller.id, challenge: null, firstFactor: firstFactorOf(caller) }
    const proof = await proveCode(ctx, typedCodeOf(body), question, now)
    await verified(proof)
    return withTokens(call, proof, { verified_at: isoTime(proof.verifiedAt), amr: [...proof.amr] })
  },

  async listBackupCodes({ ctx, now, caller }) {
    const codes = await listBackupCodes(ctx, await grantStepUp(ctx, caller, undefined, now), now)
    return { backup_codes: codes.map(({ code, usedAt }) => ({ code, used_at: isoTime(usedAt) })) }
  },

  async renameAuthenticator({ ctx, now, caller, id: authenticatorId }, { name: newName }) {
    return shownAuthenticator(await renameAuthenticator(ctx, caller.id, { authenticatorId, newName }, now))
  },

  async removeAuthenticator(call, { input_code }) {
    const { ctx, now, caller, id: authenticatorId } = call
    // Without a code the step-up comes first.
    if (input_code !== undefined) await checkAuthenticator(ctx, caller.id, authenticatorId, now)
    const grant = await permit(call, input_code)
    await removeAuthenticator(ctx, grant, { authenticatorId, keepFamilyId: caller.sessionId ?? null }, now)
    return null
  },

  async listTrustedDevices({ ctx, now, caller, header }) {
    const devices = await listTrustedDevices(ctx, caller.id, now)
    const token = deviceTokenOf(ctx.policy.trustedDevices, { header }, undefined)
    const current = token === undefined ? null : await currentDevice(ctx, caller.id, token, now)
    return {
      trusted_devices: devices.map(({ id, name, createdAt, lastUsedAt, expiresAt }) => ({
        id,
        name,
        created_at: isoTime(createdAt),
        last_used_at: isoTime(lastUsedAt),
        expires_at: isoTime(expiresAt),
        is_current: id === current,
      })),
    }
  },

  async removeTrustedDevice(call, { input_code }) {
    if (input_code !== undefined) await checkTrustedDevice(call.ctx, call.caller.id, call.id, call.now)
    await removeTrustedDevice(call.ctx, await permit(call, input_code), call.id, call.now)
    return null
  },

  async removeTrustedDevices(call, { input_code }) {
    await removeTrustedDevices(call.ctx, await permit(call, input_code), call.now)
    return null
  },

  async createTokens({ ctx, now, jwt, header, setCookie }, { username, password, trusted_device }) {
    const userId = await jwt.authenticate(username, password)
    if (userId === null) throw new TotpError('invalid_credentials')
    const { trustedDevices } = ctx.policy
    const trustedDevice = deviceTokenOf(trustedDevices, { header }, trusted_device)
    const login = await startLogin(ctx, userId, trustedDevice === undefined ? {} : { trustedDevice }, now)
    if (login.status === 'challenge') {
      const { challengeToken, expiresIn, methods, digits } = login
      const asked = { expires_in: expiresIn, methods: [...methods], digits, trusted_device_days: trustedDays(ctx) }
      return { is_totp_enabled: true, totp_challenge_token: challengeToken, ...asked }
    }
    if (login.status === 'enrollment_required') {
      const { enrollmentToken, expiresIn } = login
      return { is_totp_enabled: false, must_enroll: true, enrollment_token: enrollmentToken, expires_in: expiresIn }
    }
    const tokens = { is_totp_enabled: false as const, ...(await jwt.issueTokens(login.proof, now)) }
    return withDeviceToken(trustedDevices, tokens, login.trustedDevice, setCookie)
  },

  async answerChallenge({ ctx, now, jwt, setCookie }, body) {
    const proof = await answerChallenge(ctx, body.totp_challenge_token, typedCodeOf(body), now, jwt.refreshTokenSeconds)
    const { trustedDevices } = ctx.policy
    const mayTrust = trustedDevices !== null && body.trust_device === true
    const device = mayTrust ? await trustDevice(ctx, proof, body.device_name ?? null, now) : null
    const tokens = withDeviceToken(trustedDevices, await jwt.issueTokens(proof, now), device, setCookie)
    const { backupCodesRemaining } = proof
    return backupCodesRemaining === null ? tokens : { ...tokens, backup_codes_remaining: backupCodesRemaining }
  },

  refreshTokens: ({ jwt, now }, { refresh }) => jwt.refreshTokens(refresh, now),

  async verifyToken({ jwt, now }, { token }) {
    await jwt.verifyToken(token, now)
    return {}
  },

  async logout({ jwt, now }, { refresh }) {
    await jwt.logout(refresh, now)
    return null
  },

  async requestRecovery({ recovery, now }, { email }) {
    await recovery.requestRecovery(email, now)
    return {
      details: 'If an account with that email exists and has TOTP enabled, a recovery email has been sent.',
    }
  },

  async confirmRecovery({ recovery, now }, link) {
    await recovery.confirmRecovery(link, now)
    return null
  },

  async cancelRecovery({ recovery, now }, link) {
    await recovery.cancelRecovery(link, now)
    return null
  },
}

/** Leave to change factors; a code that was given with the request is told to the host, before anything changes. */
async function permit({ ctx, now, caller, verified }: Call, inputCode: string | undefined): Promise<ChangePermit> {
  const grant = await grantStepUp(ctx, caller, inputCode, now)
  if (grant.proof) await verified(grant.proof)
  return grant
}

/**
 * Adds the tokens of the session that a proof has raised, where it is one of our JWT module; with an enrollment token the
 * proof is the login. Comes last, because the session's earlier refresh token dies: a failure here takes nothing away
 * from the answer.
 */
async function withTokens<Reply extends object>(call: Call, proof: Proof | null, reply: Reply) {
  const { ctx, now, jwt, caller, isEnrolling } = call as Call & { jwt: JwtTokens | undefined }
  if (proof === null || jwt === undefined) return reply
  const { sessionId } = caller
  try {
    if (isEnrolling) return { ...reply, ...(await jwt.issueTokens(proof, now)) }
    return sessionId ? { ...reply, ...(await jwt.raiseSession(proof, sessionId, now)) } : reply
  } catch (error) {
    ctx.onError(error)
    return reply
  }
}

function typedCodeOf({ otp_code, backup_code }: { otp_code?: string | undefined; backup_code?: string | undefined }) {
  const typed: TypedCode =
    otp_code === undefined ? { method: 'backup_code', code: backup_code ?? '' } : { method: 'totp', code: otp_code }
  return typed
}

function shownAuthenticator({ id, name, createdAt, lastUsedAt }: Status['authenticators'][number]) {
  return { id, name, created_at: isoTime(createdAt), last_used_at: isoTime(lastUsedAt) }
}

/** Null: no device can be trusted. */
function trustedDays({ policy }: Context): number | null {
  return policy.trustedDevices && policy.trustedDevices.seconds / 86_400
}

function isoTime<At extends UnixSeconds | null>(at: At): At extends null ? null : string
function isoTime(at: UnixSeconds | null): string | null {
  return at === null ? null : new Date(at * 1000).toISOString().replace('.000Z', 'Z')
}
