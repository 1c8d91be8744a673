import type { TotpStore } from '../store/store.ts'
import { forgetUser, getStatuses } from './store-cases/account.ts'
import { outcomes } from './store-cases/attempts.ts'
import { activateFurther, readSeveral, removeAuthenticator, settleSeveral } from './store-cases/authenticators.ts'
import { budget } from './store-cases/budget.ts'
import { countCall, deleteExpired } from './store-cases/calls.ts'
import { settleCounted } from './store-cases/counted.ts'
import {
  endDevices,
  endTrustedDevice,
  keepTrustedDevice,
  listTrustedDevices,
  rotateTrustedDevice,
} from './store-cases/devices.ts'
import { noteResyncStep, settleDrift } from './store-cases/drift.ts'
import { activatePending, putPending } from './store-cases/enrollment.ts'
import { endFamily, isFamilyAlive, openFamily, raiseFamily, rotateFamily } from './store-cases/families.ts'
import { importAuthenticator } from './store-cases/import.ts'
import { endTrustedDevices, getPending, noteBackupCodesSaved, renameAuthenticator } from './store-cases/kept.ts'
import {
  clearFailures,
  consumeToken,
  getFailureBudget,
  recoveryPassword,
  removeFactorsByToken,
} from './store-cases/recovery.ts'
import { listBackupCodes, raiseGeneration, removeFactors, replaceBackupCodes } from './store-cases/removal.ts'
import { isTokenUnused, settle } from './store-cases/spending.ts'
import { getStatus, getUser, keepKeyCheck, values } from './store-cases/values.ts'

/** One promise of {@link TotpStore}, as a test for any runner. */
export interface StoreCase {
  /** The operation, and the sentence that it has to keep. */
  name: string
  /**
   * Rejects with an AssertionError when the store breaks the promise.
   *
   * @param open - gives a connection to storage that is empty at first and the same for all calls of one run; a case
   * opens several at once and closes none
   */
  run(open: () => Promise<TotpStore>): Promise<void>
}

const operations = {
  getUser,
  getStatus,
  getStatuses,
  forgetUser,
  getFailureBudget,
  readFactors: { ...outcomes, ...readSeveral },
  settleAttempt: { ...settle, ...settleSeveral, ...settleDrift, ...settleCounted, ...budget, ...recoveryPassword },
  clearFailures,
  noteResyncStep,
  putPending,
  getPending,
  activatePending: { ...activatePending, ...activateFurther },
  importAuthenticator,
  renameAuthenticator,
  removeAuthenticator,
  removeFactors: { ...removeFactors, ...removeFactorsByToken },
  replaceBackupCodes,
  listBackupCodes,
  noteBackupCodesSaved,
  raiseGeneration: { ...raiseGeneration, ...endDevices },
  isTokenUnused,
  consumeToken,
  keepTrustedDevice,
  rotateTrustedDevice,
  listTrustedDevices,
  endTrustedDevice,
  endTrustedDevices,
  openFamily,
  rotateFamily,
  raiseFamily,
  isFamilyAlive,
  endFamily,
  keepKeyCheck,
  countCall,
  deleteExpired,
  values,
}

/**
 * The promises of {@link TotpStore} as cases. A runner gives each case storage of its own and closes the connections
 * after it:
 *
 * ```ts
 * for (const { name, run } of storeCases) test(name, () => run(() => openMyStore(freshDatabase)))
 * ```
 */
export const storeCases: readonly StoreCase[] = Object.entries(operations).flatMap(([operation, promises]) =>
  Object.entries(promises).map(([sentence, run]) => ({ name: `${operation}: ${sentence}`, run })),
)
