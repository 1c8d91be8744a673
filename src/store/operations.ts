import type { TotpStore } from './store.ts'

/** Every operation of a store, in the compiler's sight: one that is missing here does not compile. */
const NAMES: Readonly<Record<keyof TotpStore, true>> = {
  getUser: true,
  getStatus: true,
  getStatuses: true,
  getFailureBudget: true,
  readFactors: true,
  settleAttempt: true,
  clearFailures: true,
  noteResyncStep: true,
  putPending: true,
  getPending: true,
  activatePending: true,
  importAuthenticator: true,
  renameAuthenticator: true,
  removeAuthenticator: true,
  removeFactors: true,
  replaceBackupCodes: true,
  noteBackupCodesSaved: true,
  listBackupCodes: true,
  raiseGeneration: true,
  forgetUser: true,
  isTokenUnused: true,
  consumeToken: true,
  keepTrustedDevice: true,
  rotateTrustedDevice: true,
  listTrustedDevices: true,
  endTrustedDevice: true,
  endTrustedDevices: true,
  openFamily: true,
  rotateFamily: true,
  raiseFamily: true,
  isFamilyAlive: true,
  endFamily: true,
  keepKeyCheck: true,
  countCall: true,
  deleteExpired: true,
  migrate: true,
  close: true,
}

type Operation = (...args: unknown[]) => Promise<unknown>

/**
 * A store whose operations are those of `store`, each put through `wrap`. By their names, so that a store may be an object, or
 * a class whose operations are not its own properties.
 */
export function mapStore(
  store: TotpStore,
  wrap: (operation: Operation, name: keyof TotpStore) => Operation = (operation) => operation,
): TotpStore {
  const names = Object.keys(NAMES) as (keyof TotpStore)[]
  const wrapped = names.map((name) => {
    const operation = (...args: unknown[]) => (store[name] as Operation).apply(store, args)
    return [name, wrap(operation, name)]
  })
  return Object.fromEntries(wrapped) as TotpStore
}
