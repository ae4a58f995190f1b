import tseslint from "typescript-eslint";

/** What node:test runs by itself. */
const TESTS = ["after", "before", "describe", "test"].map((name) => ({ from: "package", package: "node:test", name }));

export default tseslint.config(
  { ignores: ["build", "dist", "src/wire"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-floating-promises": ["error", { allowForKnownSafeCalls: TESTS }],
      // A caller's abort may have any reason, and goes on as it is.
      "@typescript-eslint/prefer-promise-reject-errors": "off",
      // Functions of one shape, some of which have nothing to wait for.
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
);
