import type { UnixSeconds } from '../clock.ts'
import { backupCodeDigests } from '../crypto/digest.ts'
import { openValue, sealValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { BACKUP_CODE_BYTES, formatBackupCode, readBackupCode } from '../otp/backup-code.ts'
import { looksLikeTotpCode } from '../otp/typed-code.ts'
import type { BackupCodeRecord } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'
import { type ChangePermit, outdatedPermit } from './step-up.ts'
import { notEnabled } from './verify-code.ts'

/** What the fields of the endpoints take (`contract/fields.ts`), as it is typed: a longer code could not be used. */
const MAX_IMPORTED_CODE_LENGTH = 64
/**
 * The shortest that the loosest failure budget makes safe: 999 guesses a day, what the options allow at most, find one of
 * 50 codes of 8 hexadecimal characters with a chance of 0.4 % in a year, one of 9 digits with 1.8 %, one of 7 hexadecimal
 * characters with 7 %. Eight digits would be taken for a code of the app.
 */
const MIN_IMPORTED_CODE_LENGTH = 8
const MAX_IMPORTED_CODES = 50

/** A new set of backup codes, as people see them. */
export function newBackupCodes(ctx: Context): string[] {
  return Array.from({ length: ctx.policy.backupCodes.count }, () => formatBackupCode(ctx.random(BACKUP_CODE_BYTES)))
}

/** The codes as the store keeps them. */
export function sealBackupCodes(
  ctx: Context,
  userId: string,
  codes: readonly string[],
  now: UnixSeconds,
): BackupCodeRecord[] {
  return codes.map((code) => {
    const [digest] = backupCodeDigests(ctx.backupCodeKeys, userId, readBackupCode(code)) as [string]
    const label = { purpose: 'backup-code', owner: userId } as const
    const sealedCode = ctx.policy.backupCodes.storage === 'hashed' ? null : sealValue(ctx.keyring, label, code, now)
    return { digest, sealedCode }
  })
}

/**
 * Puts a new set of codes in the place of the old one, used and unused.
 *
 * @throws TotpError `totp_not_set_up`, `totp_not_enabled`, `step_up_required`, `unavailable`
 */
export async function rotateBackupCodes(ctx: Context, grant: ChangePermit, now: UnixSeconds): Promise<string[]> {
  const codes = newBackupCodes(ctx)
  await replaceBackupCodes(ctx, grant, codes, now)
  return codes
}

/**
 * Stores codes that the host brings along, in the place of the user's codes.
 *
 * @throws RangeError as {@link checkForeignCodes}
 * @throws TotpError as {@link rotateBackupCodes}
 */
export async function storeBackupCodes(
  ctx: Context,
  grant: ChangePermit,
  codes: readonly string[],
  now: UnixSeconds,
): Promise<void> {
  checkForeignCodes(codes)
  await replaceBackupCodes(ctx, grant, codes, now)
}

/**
 * Codes that were made elsewhere: long enough that the failure budget keeps them from being guessed.
 *
 * @throws TypeError when one is no text: a digest made elsewhere cannot be stored, since ours has a key in it
 * @throws RangeError when a code is shorter than 8 characters without spaces and hyphens, or has 8 digits or fewer and
 * nothing else, or is longer than 64 characters as it stands; when two are the same, or when there are more than 50
 */
export function checkForeignCodes(codes: readonly string[]): void {
  if (!Array.isArray(codes) || codes.some((code) => typeof code !== 'string')) {
    throw new TypeError('backup codes must be an array of strings in plain text: digests cannot be imported')
  }
  const read = codes.map(readBackupCode)
  if (codes.some(looksLikeTotpCode) || read.some((code) => code.length < MIN_IMPORTED_CODE_LENGTH)) {
    throw new RangeError(
      `a backup code must have at least ${MIN_IMPORTED_CODE_LENGTH} characters, or 9 digits, not counting spaces and hyphens`,
    )
  }
  if (codes.some((code) => code.length > MAX_IMPORTED_CODE_LENGTH)) {
    throw new RangeError(`a backup code must have at most ${MAX_IMPORTED_CODE_LENGTH} characters`)
  }
  if (new Set(read).size !== read.length) throw new RangeError('backup codes must be different from each other')
  if (codes.length > MAX_IMPORTED_CODES)
    throw new RangeError(`there must be at most ${MAX_IMPORTED_CODES} backup codes`)
}

async function replaceBackupCodes(
  ctx: Context,
  { userId, user }: ChangePermit,
  codes: readonly string[],
  now: UnixSeconds,
): Promise<void> {
  if (user.confirmedAt === null) throw await notEnabled(ctx, userId, now)
  const sealed = sealBackupCodes(ctx, userId, codes, now)
  if (!(await ctx.store.replaceBackupCodes(userId, sealed, user.generation))) throw await outdatedPermit(ctx, userId)
  await ctx.announce({ type: 'backup_codes.rotated', userId, at: now })
}

/**
 * The user's codes for viewing again, in the order in which they were handed out. `usedAt` null: unused.
 *
 * @throws TotpError `not_found` when the codes are kept hashed; `totp_not_set_up`, `totp_not_enabled`, `unavailable`
 */
export async function listBackupCodes(
  ctx: Context,
  { userId, user }: ChangePermit,
  now: UnixSeconds,
): Promise<{ code: string; usedAt: UnixSeconds | null }[]> {
  checkUserId(userId)
  if (user.confirmedAt === null) throw await notEnabled(ctx, userId, now)
  const records = await ctx.store.listBackupCodes(userId)
  const codes: { code: string; usedAt: UnixSeconds | null }[] = []
  for (const { sealedCode, usedAt } of records) {
    if (sealedCode === null || ctx.policy.backupCodes.storage === 'hashed') throw new TotpError('not_found')
    const code = openValue(ctx.keyring, { purpose: 'backup-code', owner: userId }, sealedCode)
    if (code === null) {
      await ctx.announce({ type: 'secret.unreadable', userId, at: now })
      throw new TotpError('unavailable', { cause: new Error('no encryption key can decrypt a stored backup code') })
    }
    codes.push({ code, usedAt })
  }
  await ctx.announce({ type: 'backup_codes.viewed', userId, at: now })
  return codes
}

/**
 * Notes that the user has kept the current codes: `getStatus` says so until other codes replace them.
 *
 * @throws TotpError `totp_not_set_up`, `totp_not_enabled`, `unavailable`
 */
export async function backupCodesSaved(ctx: Context, userId: string, now: UnixSeconds): Promise<void> {
  checkUserId(userId)
  const { confirmedAt } = await ctx.store.getUser(userId)
  if (confirmedAt === null) throw await notEnabled(ctx, userId, now)
  await ctx.store.noteBackupCodesSaved(userId, now)
  await ctx.announce({ type: 'backup_codes.saved', userId, at: now })
}
