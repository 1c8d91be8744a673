import type { Api, Enrolment, KeptCode, Me, Status } from './api.ts'

/** What stands in the main element. */
export interface View {
  name: 'login' | 'register' | 'challenge' | 'setup' | 'backup-codes' | 'account'
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
  toSetup(given: { enrolment: Enrolment; username: string; replaces: boolean }): void
  toBackupCodes(given: { codes: KeptCode[]; username: string; occasion: 'set-up' | 'rotated' | 'viewed' }): void
  toAccount(given?: { notice?: string }): void
}

/** What the cards of the account view share. */
export interface Account {
  app: App
  /** Read anew after signing in again, so that what depends on the fresh proof follows. */
  me: Me
  status: Status
}
