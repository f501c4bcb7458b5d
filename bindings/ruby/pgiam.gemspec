# frozen_string_literal: true

# build-gem reads this in a folder with the native files, and sets the platform.
Gem::Specification.new do |gem|
  gem.name = "pgiam"
  gem.version = ENV.fetch("PGIAM_VERSION")
  gem.summary = "AWS IAM tokens as PostgreSQL passwords: pg, ActiveRecord and Sequel on Amazon RDS, Aurora and Aurora DSQL"
  gem.description = "Makes a fresh IAM token for each connection. The gem contains the native library and the programs " \
                    "pgiam and psql-iam; it needs no compiler."
  gem.authors = ["The pgiam developers"]
  gem.licenses = ["MIT", "Apache-2.0"]
  gem.required_ruby_version = ">= 2.7"
  gem.add_dependency "fiddle", ">= 1.0"
  gem.files = Dir["{lib,exe,native,licenses}/**/*", "README.md", "LICENSE-*"].select { |path| File.file?(path) }.sort
  gem.bindir = "exe"
  gem.executables = %w[pgiam psql-iam]
end
