# frozen_string_literal: true

# AWS IAM tokens as PostgreSQL passwords, for Amazon RDS, Aurora and Aurora DSQL.
#
#   token = Pgiam.generate_token(host: "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", user: "app_user")
#
# A token is a password: send it over TLS only. The server checks it at login, so a connection that is open stays open
# when its token expires; make a new token for every new connection. Pgiam.connect, `pgiam: true` in database.yml and
# `pgiam: true` for Sequel do that.
module Pgiam
end

require_relative "pgiam/login"

module Pgiam
  VERSION = Native.version
end

# Where Bundler requires the gem, before or after Rails and Sequel.
if defined?(ActiveSupport) && ActiveSupport.respond_to?(:on_load)
  ActiveSupport.on_load(:active_record) { require "pgiam/active_record" }
end
require "pgiam/rails_dbconsole" if defined?(Rails::DBConsole)
require "pgiam/sequel" if defined?(Sequel::Database)
