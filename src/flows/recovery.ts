import { createHash } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import type { TokenSealer } from '../crypto/sealed-token.ts'
import { type ErrorCode, TotpError } from '../errors.ts'
import type { SingleUse } from '../store/store.ts'
import { announceChange } from './changes.ts'
import { type Context, isActive, newId } from './context.ts'
import { tryMail } from './mail.ts'
import { announceFailures } from './verify-code.ts'

/** What recovery needs beside the context; put together in `recovery/index.ts`. */
export interface RecoveryParts {
  /** Opens the way to {@link confirmRecovery}, for the address that asked. */
  tokens: TokenSealer
  /** Opens the way to {@link cancelRecovery} only, for the user's other addresses. */
  cancelTokens: TokenSealer
  /** From the request until the link works. */
  delaySeconds: number
  findAccount: (email: string) => Promise<{ userId: string; email: string } | null>
  addressesOf: (userId: string) => Promise<readonly string[]>
  checkPassword: (userId: string, password: string) => Promise<boolean>
  sendLink: (link: RecoveryLink) => Promise<void>
}

/** What a mail about a recovery is made of. */
interface RecoveryLink {
  userId: string
  /** One of the user's own addresses, as the host keeps it. */
  to: string
  uid: string
  /** For {@link confirmRecovery} where `canConfirm`, else for {@link cancelRecovery} only. */
  token: string
  canConfirm: boolean
  /** When it was asked for. */
  at: UnixSeconds
  worksFrom: UnixSeconds
  expiresAt: UnixSeconds
}

/** Mails of one user in this time, so that nobody's mailbox is flooded by a stranger. */
const MAX_MAILS = 5
const MAILS_WINDOW_SECONDS = 3600

/**
 * Asks for a recovery link. Answers before anything depends on the address: finding the user, sealing and mailing happen
 * later, so words and time are the same whatever is true (django-totp sends within the request, and its time tells).
 *
 * @throws TotpError `unavailable` when the store cannot be reached, whoever is asked for
 */
export async function requestRecovery(
  ctx: Context,
  parts: RecoveryParts,
  email: string,
  now: UnixSeconds,
): Promise<void> {
  // Both parts of the store that the rest needs: burnt tokens may be kept in Redis.
  await Promise.all([ctx.store.isTokenUnused(newId(ctx)), ctx.store.getUser(newId(ctx))])
  ctx.afterResponse(() => sendLinks(ctx, parts, email, now))
}

async function sendLinks(ctx: Context, parts: RecoveryParts, email: string, now: UnixSeconds): Promise<void> {
  const account = await parts.findAccount(email)
  if (account === null) return
  const { userId } = account
  const { confirmedAt, generation } = await ctx.store.getUser(userId)
  if (confirmedAt === null || !(await isActive(ctx, userId)) || !(await mayMail(ctx, userId, now))) return
  const claims = { id: newId(ctx), userId, generation }
  const common = {
    userId,
    uid: uidOf(userId),
    at: now,
    worksFrom: now + parts.delaySeconds,
    expiresAt: now + parts.tokens.ttlSeconds,
  }
  const addresses = await tryMail(ctx, { userId, at: now }, () => parts.addressesOf(userId))
  // Without the warnings there is no link: whoever reads one mailbox must not be alone with it.
  if (addresses === null) return
  const others = addresses.filter((address) => address !== account.email)
  // The warnings first: the link must not be ahead of them.
  const links: RecoveryLink[] = [
    ...others.map((to) => ({
      ...common,
      to,
      token: unpadded(parts.cancelTokens.seal(claims, now)),
      canConfirm: false,
    })),
    { ...common, to: account.email, token: unpadded(parts.tokens.seal(claims, now)), canConfirm: true },
  ]
  await ctx.announce({ type: 'recovery.requested', userId, at: now })
  await Promise.all(links.map((link) => tryMail(ctx, { userId, at: now }, () => parts.sendLink(link))))
}

async function mayMail(ctx: Context, userId: string, now: UnixSeconds): Promise<boolean> {
  const keyDigest = createHash('sha256').update(`recovery mail ${userId}`).digest('base64url')
  return (await ctx.store.countCall({ keyDigest, windowSeconds: MAILS_WINDOW_SECONDS, now })).calls <= MAX_MAILS
}

/**
 * Switches 2FA off with two proofs: the link and the password (NIST SP 800-63B-4 §4.2). The link is good once, and dies
 * with a change of the factors or of the password. Wrong passwords have a failure budget of their own.
 *
 * @throws TotpError `recovery_link_invalid`: altered, expired, used, canceled, of another kind or user, older than a
 * change of factors; with `retryAfterSeconds` when it does not work yet. `invalid_credentials`, `too_many_attempts`,
 * `second_factor_locked`, `unavailable`
 */
export async function confirmRecovery(
  ctx: Context,
  parts: RecoveryParts,
  { uid, token, password }: { uid: string; token: string; password: string },
  now: UnixSeconds,
): Promise<void> {
  const opened = openLink(parts.tokens, { uid, token, now })
  if (opened === null) throw new TotpError('recovery_link_invalid')
  const { userId, link } = opened
  const worksFrom = link.expiresAt - parts.tokens.ttlSeconds + parts.delaySeconds
  if (now < worksFrom) {
    throw await refusal(ctx, userId, 'recovery_link_invalid', now, { retryAfterSeconds: worksFrom - now })
  }
  if (!(await isActive(ctx, userId))) throw await refusal(ctx, userId, 'recovery_link_invalid', now)
  const { failures: limits } = ctx.policy
  const method = 'recovery_password'
  const factors = await ctx.store.readFactors({ userId, method, against: 'live', token: link, now, limits })
  if (factors.outcome !== 'open') throw await blocked(ctx, userId, factors, now)
  const { generation } = factors.user
  // Whatever the password is, nothing of it is told before its attempt was admitted.
  if ((await parts.checkPassword(userId, password)) !== true) {
    const wrong = { userId, method, token: link, generation, family: null, now, limits } as const
    const settled = await ctx.store.settleAttempt(wrong)
    if (settled.outcome !== 'wrong') throw await blocked(ctx, userId, settled, now)
    const { attemptsLeft, consecutive } = settled.budget
    const refused = await refusal(ctx, userId, 'invalid_credentials', now, { attemptsLeft })
    await announceFailures(ctx, { userId, method, consecutive, now })
    throw refused
  }
  const removal = { userId, generation, token: link, keepFamilyId: null, now, limits }
  const removed = await ctx.store.removeFactors(removal)
  if (removed.outcome !== 'removed') throw await blocked(ctx, userId, removed, now)
  await announceChange(ctx, null, { type: 'recovery.confirmed', userId, at: now })
}

/**
 * "This wasn't me": the link is dead, and with it the user's other links, challenges, trusted devices and refresh
 * families: somebody who knows the password may have begun them. Needs no password: whoever reads the mail may stop it.
 *
 * @throws TotpError `recovery_link_invalid`, `unavailable`
 */
export async function cancelRecovery(
  ctx: Context,
  parts: RecoveryParts,
  { uid, token }: { uid: string; token: string },
  now: UnixSeconds,
): Promise<void> {
  const opened = openLink(parts.tokens, { uid, token, now }) ?? openLink(parts.cancelTokens, { uid, token, now })
  if (opened === null) throw new TotpError('recovery_link_invalid')
  const { userId, link } = opened
  const { generation } = await ctx.store.getUser(userId)
  if (link.generation !== generation || !(await ctx.store.consumeToken(link, now))) {
    throw await refusal(ctx, userId, 'recovery_link_invalid', now)
  }
  // Whoever asked may have asked several times: with the mailbox and the password, each link would be good by itself.
  // The failures stay: whoever reads the mail could cancel after four wrong passwords, and guess on with the next link.
  await ctx.store.raiseGeneration(userId, now, { isPasswordSame: true })
  await announceChange(ctx, null, { type: 'recovery.canceled', userId, at: now })
}

/** The user a link is for; null when the token is none of `sealer`'s, has expired, or names another user than `uid`. */
function openLink(
  sealer: TokenSealer,
  { uid, token, now }: { uid: string; token: string; now: UnixSeconds },
): { userId: string; link: SingleUse } | null {
  // Sent without its padding, which a link would have to escape (RFC 4648 §3.2).
  const opened = sealer.open(token.padEnd(Math.ceil(token.length / 4) * 4, '='), now)
  if (opened === null || uidOf(opened.userId) !== uid) return null
  const { id: tokenId, userId, generation, expiresAt } = opened
  return { userId, link: { tokenId, generation, expiresAt } }
}

function unpadded(token: string): string {
  return token.replace(/=+$/, '')
}

/** The user's id as it stands in a link, as in Django: base64url. Says who, proves nothing. */
function uidOf(userId: string): string {
  return Buffer.from(userId).toString('base64url')
}

/** Why no password may be tried, or none was admitted. */
function blocked(
  ctx: Context,
  userId: string,
  why: { outcome: string; retryAt?: UnixSeconds },
  now: UnixSeconds,
): Promise<TotpError> {
  if (why.outcome === 'locked') return refusal(ctx, userId, 'second_factor_locked', now)
  if (why.retryAt === undefined) return refusal(ctx, userId, 'recovery_link_invalid', now)
  return refusal(ctx, userId, 'too_many_attempts', now, { retryAfterSeconds: why.retryAt - now })
}

async function refusal(
  ctx: Context,
  userId: string,
  code: ErrorCode,
  at: UnixSeconds,
  details: { retryAfterSeconds?: number; attemptsLeft?: number } = {},
): Promise<TotpError> {
  await ctx.announce({ type: 'recovery.refused', userId, code, at })
  return new TotpError(code, details)
}
