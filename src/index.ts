export type { Listen, ListenerOptions, TotpListener } from './announcer.ts'
export type { Clock, UnixSeconds } from './clock.ts'
export { createTotp, type Totp, type TotpOptions } from './create-totp.ts'
export { generateFernetKey } from './crypto/keyring.ts'
export { resolveFernetKey } from './encryption-key.ts'
export { type ErrorCode, type ProblemBody, type RefusalDetails, TotpError } from './errors.ts'
export type { By, SecondFactorMethod, TotpEvent } from './events.ts'
export type { Enforcement, EnforcementRule } from './flows/context.ts'
export type { EnforcementForecast } from './flows/enforcement.ts'
export type { Confirmation, SetupNames, TotpSetup } from './flows/enrollment.ts'
export type { AuthenticatorImport } from './flows/import.ts'
export type { FirstFactor, LoginStart } from './flows/login.ts'
export type { Proof } from './flows/proof.ts'
export type { Status } from './flows/status.ts'
export type { Caller, CallerSession, Freshness, Nobody } from './flows/step-up.ts'
export type { TrustedDevice } from './flows/trusted-devices.ts'
export type { TypedCode } from './flows/verify-code.ts'
export type { WithinLimits } from './flows/within.ts'
export type { HttpReply } from './http/message.ts'
export { problemReply, problemResponse } from './http/problem.ts'
export type { HotpParameters, OtpAlgorithm } from './otp/hotp.ts'
export { generateTotpSecret } from './otp/secret.ts'
export type { TotpParameters } from './otp/totp.ts'
export type {
  BackupCodeOptions,
  CodeOptions,
  FailureLimits,
  FailureOptions,
  PolicyOptions,
  Rate,
  StepUpOptions,
  TrustedDeviceOptions,
} from './policy.ts'
export type {
  Attempt,
  AuthenticatorRecord,
  BackupCodeRecord,
  Blocked,
  FactorStatus,
  Factors,
  FailureBudget,
  FailureKind,
  PendingAuthenticator,
  RefreshFamily,
  Settled,
  Settlement,
  SingleUse,
  Stale,
  StepMatch,
  TotpStore,
  TrustedDeviceRecord,
  UserRecord,
} from './store/store.ts'
