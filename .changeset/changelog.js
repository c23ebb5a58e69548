/** What `changeset version` writes: the words of a changeset as they are, as an item of the list in CHANGELOG.md. */
export default {
  getReleaseLine: ({ summary }) => `- ${summary.trim().replaceAll(/\n(?=.)/g, "\n  ")}`,
  // There is one package, so nothing of the repository depends on another.
  getDependencyReleaseLine: () => ""
}
