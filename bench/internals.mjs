/**
 * What the measurements take from inside the built package, in one place: its statements, so that the limit runs the
 * same SQL, and its arithmetic, to be measured by itself. Everything else uses the public doors.
 * By path: this folder is a package of its own, in which `totp-kit` is no self-reference.
 */
export { backupCodeDigests } from '../dist/crypto/digest.js'
export { createKeyring } from '../dist/crypto/keyring.js'
export { tokenSealer } from '../dist/crypto/sealed-token.js'
export { readClaims, writeClaims } from '../dist/jwt/claims.js'
export { keySigner } from '../dist/jwt/signer.js'
export { decodeBase32 } from '../dist/otp/base32.js'
export { keyUri } from '../dist/otp/key-uri.js'
export { qrSvg } from '../dist/otp/qr.js'
export { matchStep } from '../dist/otp/totp.js'
export { statementsFor } from '../dist/store/sql/statements.js'
export { tablesOf } from '../dist/store/sql/tables.js'
