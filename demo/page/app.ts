import type { Api, Enrollment, KeptCode, LoggedIn, Me, RecoveryLink, Status, TrustedDevice } from './api.ts'
import type { BegunSetup, Challenge } from './unfinished.ts'

/** What the main element shows. */
export interface View {
  name: 'login' | 'register' | 'challenge' | 'setup' | 'backup-codes' | 'account' | 'recovery' | 'recovery-link'
  /** Of the document, so that a tab and a screen reader tell where one is. */
  title: string
  content: Node[]
  /** Where the focus goes: the first field, or the heading when there is something to read first. */
  focus: HTMLElement
  /** Asked when the person wants to leave. True while something would be lost; the view says so then. */
  holdsBack?: () => boolean
}

/** The API and the ways from view to view. A notice is shown above the next view. */
export interface App {
  api: Api
  toLogin(given?: { notice?: string; username?: string }): void
  toRegister(): void
  /** After a right password. */
  toNextStep(loggedIn: LoggedIn, username: string, notice?: string): Promise<void>
  toChallenge(challenge: Challenge): void
  toSetup(given: Setup): void
  toBackupCodes(given: { codes: KeptCode[]; username: string; occasion: Occasion }): void
  toAccount(given?: { notice?: string }): void
  /** Where a lost phone is reported. */
  toRecovery(): void
  /** What the link of a mail opens. */
  toRecoveryLink(link: RecoveryLink): void
}

/** An enrollment that waits for its first code. */
export interface Setup extends Pick<BegunSetup, 'username' | 'name' | 'enrollmentToken' | 'isFurther'> {
  enrollment: Enrollment
}

/** `unsaved`: the codes are shown again to someone who has not said yet that they are saved. */
export type Occasion = 'set-up' | 'rotated' | 'viewed' | 'unsaved'

/** What the cards of the account view share. */
export interface Account {
  app: App
  /** Read again after a step-up, so that what depends on the fresh proof follows. */
  me: Me
  status: Status
  trustedDevices: TrustedDevice[]
}
