import type { Notice, NoticeKind } from './notice.ts'

/** A mail's words. `html` may be left out. */
export interface Mail {
  subject: string
  text: string
  html?: string
}

/** Words of your own for some kinds of notice; each gets the notice of its kind. */
export type MailTemplates = { [Kind in NoticeKind]?: (notice: Extract<Notice, { kind: Kind }>) => Mail }
