import { createHash } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import type { TrustedDeviceRecord } from '../store/store.ts'
import { type Context, checkUserId, newId } from './context.ts'
import { checkProof, type Proof } from './proof.ts'
import type { ChangePermit } from './step-up.ts'

/** A trusted device as its owner sees it. Times are Unix seconds. */
export type TrustedDevice = Pick<TrustedDeviceRecord, 'id' | 'name' | 'createdAt' | 'lastUsedAt' | 'expiresAt'>

/**
 * Keeps the device of a log-in, so that its next ones need no code for `trustedDevices.days`. The token belongs on the
 * device and nowhere else; the store keeps its digest.
 *
 * @param proof - of a second factor
 * @returns the token; null when the factors have changed since the proof
 * @throws TypeError when trusted devices are off, or `proof` is not one of ours or of a first factor only
 */
export async function trustDevice(
  ctx: Context,
  proof: Proof,
  name: string | null,
  now: UnixSeconds,
): Promise<string | null> {
  const { trustedDevices } = ctx.policy
  if (trustedDevices === null) throw new TypeError('trustDevice requires the trustedDevices option')
  checkProof(ctx, proof)
  const { userId, method, generation } = proof
  if (method !== 'totp' && method !== 'backup_code')
    throw new TypeError('trustDevice requires a Proof of a second factor')
  const [id, tokenId] = [newId(ctx), newId(ctx)]
  const expiresAt = now + trustedDevices.seconds
  const tokenDigest = digestOf(tokenId)
  const device = { id, userId, name, tokenDigest, createdAt: now, lastUsedAt: now, expiresAt }
  if (!(await ctx.store.keepTrustedDevice(device, generation))) return null
  await ctx.announce({ type: 'trusted_device.kept', userId, deviceId: id, name, at: now })
  return ctx.trustedDeviceTokens.seal({ id: tokenId, userId, generation, more: id }, now)
}

/**
 * Whether a token shows a device that `userId` trusts. The token is spent by it, and a new one takes its place: a copy
 * that is used later ends the device.
 *
 * @returns the new token and the generation that it was good under; null when the code has to be asked for
 */
export async function recognizeDevice(
  ctx: Context,
  userId: string,
  token: string,
  now: UnixSeconds,
): Promise<{ token: string; generation: number } | null> {
  if (ctx.policy.trustedDevices === null) return null
  const opened = ctx.trustedDeviceTokens.open(token, now)
  // A token that belongs to another user is ignored without an event.
  if (opened === null || opened.userId !== userId || opened.more === undefined) return null
  const { id, generation, more: deviceId } = opened
  const tokenId = newId(ctx)
  const wasTrusted = (await ctx.store.listTrustedDevices(userId, now)).some((device) => device.id === deviceId)
  const outcome = await ctx.store.rotateTrustedDevice({
    userId,
    deviceId,
    tokenDigest: digestOf(id),
    newTokenDigest: digestOf(tokenId),
    generation,
    now,
  })
  if (outcome === 'dead') {
    await ctx.announce({ type: 'trusted_device.refused', userId, deviceId, copied: wasTrusted, at: now })
    return null
  }
  await ctx.announce({ type: 'trusted_device.used', userId, deviceId, at: now })
  return { token: ctx.trustedDeviceTokens.seal({ id: tokenId, userId, generation, more: deviceId }, now), generation }
}

/** The user's trusted devices, the newest first. */
export async function listTrustedDevices(ctx: Context, userId: string, now: UnixSeconds): Promise<TrustedDevice[]> {
  checkUserId(userId)
  const devices = await ctx.store.listTrustedDevices(userId, now)
  return devices.map(({ id, name, createdAt, lastUsedAt, expiresAt }) => ({
    id,
    name,
    createdAt,
    lastUsedAt,
    expiresAt,
  }))
}

/** Looks whether the user has this trusted device, so that no code is spent on one that is gone. @throws TotpError `not_found` */
export async function checkTrustedDevice(
  ctx: Context,
  userId: string,
  deviceId: string,
  now: UnixSeconds,
): Promise<void> {
  const devices = await listTrustedDevices(ctx, userId, now)
  if (!devices.some(({ id }) => id === deviceId)) throw new TotpError('not_found')
}

/** Ends a trusted device. @throws TotpError `not_found` */
export async function removeTrustedDevice(
  ctx: Context,
  { userId }: ChangePermit,
  deviceId: string,
  now: UnixSeconds,
): Promise<void> {
  if (!(await ctx.store.endTrustedDevice(userId, deviceId))) throw new TotpError('not_found')
  await ctx.announce({ type: 'trusted_device.removed', userId, deviceId, at: now })
}

/** Ends all trusted devices of the user. */
export async function removeTrustedDevices(ctx: Context, { userId }: ChangePermit, now: UnixSeconds): Promise<void> {
  const devices = await ctx.store.listTrustedDevices(userId, now)
  await ctx.store.endTrustedDevices(userId)
  for (const { id: deviceId } of devices)
    await ctx.announce({ type: 'trusted_device.removed', userId, deviceId, at: now })
}

/** The id of the living trusted device that `token` was made for; null: none of the user's. Spends nothing, opens nothing. */
export async function currentDevice(
  ctx: Context,
  userId: string,
  token: string,
  now: UnixSeconds,
): Promise<string | null> {
  const opened = ctx.trustedDeviceTokens.open(token, now)
  if (opened === null || opened.userId !== userId) return null
  const devices = await ctx.store.listTrustedDevices(userId, now)
  return devices.find(({ id }) => id === opened.more)?.id ?? null
}

/** A token's id has 128 random bits: nothing slower than one hash is needed. */
function digestOf(tokenId: string): string {
  return createHash('sha256').update(tokenId).digest('base64url')
}
