import type { Account, App } from '../app.ts'
import { el } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'

export interface WhoCard {
  element: HTMLElement
  /** Says again how the session was proved. */
  update(): void
}

export function whoCard({ app, me }: Account): WhoCard {
  const how = el('p', { class: 'hint' })
  function update(): void {
    how.textContent = me.amr.includes('mfa')
      ? 'Logged in with password and second factor'
      : 'Logged in with password only'
  }
  update()
  const who = el('div', {}, el('strong', {}, me.username), el('p', { class: 'hint' }, me.email), how)
  return { element: el('section', { class: 'card who' }, who, logOutButton(app)), update }
}

export function logOutButton(app: App): HTMLElement {
  async function work(): Promise<void> {
    const isReached = await app.api.logOut()
    const notice = isReached
      ? 'You are logged out.'
      : 'You are logged out on this device. The server could not be reached, so the session stays active on the server until it expires.'
    app.toLogin({ notice })
  }
  return actionButton({ action: 'logout', label: 'Log out', busyLabel: 'Logging out…', errors: errorRegion(), work })
}
