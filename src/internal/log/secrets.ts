/**
 * What of secrets etcd prints, and how it is left out.
 *
 * @internal
 */

// etcd prints what it takes from its environment, which is where its secrets are, and who it is for a discovery service.
// A line that was too long, or whose rest never came, may end in the middle of that.
const secretFields = /("(?:variable-value|discovery-user|discovery-password)": ?)"(?:(?:[^"\\]|\\.)+"?|\\$)/g

export const withoutSecrets = (line: string): string =>
  line.includes('"variable-value"') || line.includes('"discovery-')
    ? line.replace(secretFields, '$1"<redacted>"')
    : line
