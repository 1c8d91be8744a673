import type { RecoveryLink } from './api.ts'
import { createApi } from './api.ts'
import type { App, View } from './app.ts'
import { el } from './dom.ts'
import { accountView } from './views/account.ts'
import { backupCodesView } from './views/backup-codes.ts'
import { challengeView } from './views/challenge.ts'
import { loginView } from './views/login.ts'
import { recoveryView } from './views/recovery.ts'
import { recoveryLinkView } from './views/recovery-link.ts'
import { registerView } from './views/register.ts'
import { setupView } from './views/setup.ts'
import { SESSION_ENDED } from './wording.ts'

const main = must('view')
const announcer = must('announcer')

const app: App = {
  api: createApi(() => app.toLogin({ notice: SESSION_ENDED })),
  toLogin: ({ notice, username } = {}) => show(loginView(app, username), notice),
  toRegister: () => show(registerView(app)),
  toChallenge: (challenge) => show(challengeView(app, challenge)),
  toSetup: (given) => show(setupView(app, given)),
  toBackupCodes: (given) => show(backupCodesView(app, given)),
  toRecovery: () => show(recoveryView(app)),
  toRecoveryLink: (link) => show(recoveryLinkView(app, link)),
  toAccount: ({ notice } = {}) => show(accountView(app), notice),
}

function show(view: View, notice = ''): void {
  document.title = `${view.title} · totp-kit demo`
  main.setAttribute('data-view', view.name)
  main.replaceChildren(
    ...(notice === '' ? [] : [el('p', { class: 'notice', 'data-notice': true }, notice)]),
    ...view.content,
  )
  // The focus goes past the notice, so a live region outside of the view says it.
  announcer.textContent = notice
  window.scrollTo(0, 0)
  view.focus.focus({ preventScroll: true })
}

function must(id: string): HTMLElement {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`index.html has no #${id}`)
  return element
}

function start(): void {
  const link = takeLink()
  if (link !== null) app.toRecoveryLink(link)
  else if (app.api.isLoggedIn()) app.toAccount()
  else app.toLogin()
}

/** The link of a mail, out of the address bar: nobody is to read the token there, nor in the history. */
function takeLink(): RecoveryLink | null {
  const said = new URLSearchParams(location.hash.slice(1))
  const [uid, token] = [said.get('uid'), said.get('token')]
  if (uid === null || token === null) return null
  history.replaceState(null, '', location.pathname + location.search)
  return { uid, token, onlyCancels: said.has('cancel') }
}

// A link that is opened where the page is open already loads nothing anew.
window.addEventListener('hashchange', () => {
  const link = takeLink()
  if (link !== null) app.toRecoveryLink(link)
})
start()
