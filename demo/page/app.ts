import type { Api, Enrolment, KeptCode, Me, RecoveryLink, Status, TrustedDevice } from './api.ts'

/** What stands in the main element. */
export interface View {
  name: 'login' | 'register' | 'challenge' | 'setup' | 'backup-codes' | 'account' | 'recovery' | 'recovery-link'
  /** Of the document, so that a tab and a screen reader tell where one is. */
  title: string
  content: Node[]
  /** Where the focus goes: the first field, or the heading when there is something to read first. */
  focus: HTMLElement
}

/** The API and the ways from view to view. A notice is said above the view that is gone to. */
export interface App {
  api: Api
  toLogin(given?: { notice?: string; username?: string }): void
  toRegister(): void
  toChallenge(challenge: { token: string; username: string }): void
  toSetup(given: Setup): void
  toBackupCodes(given: { codes: KeptCode[]; username: string; occasion: Occasion }): void
  toAccount(given?: { notice?: string }): void
  /** Where a lost phone is reported. */
  toRecovery(): void
  /** What the link of a mail opens. */
  toRecoveryLink(link: RecoveryLink): void
}

/** An enrolment that waits for its first code. */
export interface Setup {
  enrolment: Enrolment
  username: string
  /** The authenticators that are live already, and stay so until the new one is confirmed. */
  live: readonly string[]
  /** Of a user who may not log in before 2FA is on; null for one who is logged in. */
  enrolmentToken: string | null
}

/** `required`: set up by a user who has yet to log in. */
export type Occasion = 'set-up' | 'required' | 'rotated' | 'viewed'

/** What the cards of the account view share. */
export interface Account {
  app: App
  /** Read anew after signing in again, so that what depends on the fresh proof follows. */
  me: Me
  status: Status
  trustedDevices: TrustedDevice[]
}
