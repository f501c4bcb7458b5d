# frozen_string_literal: true

require "active_record"
require_relative "login"

module Pgiam
  # `pgiam: true` in database.yml: the password of that configuration makes a new token at each connect, and for the
  # programs that dump and load the structure.
  module ActiveRecord # :nodoc:
    # All users of a configuration read it here.
    module Configuration
      def configuration_hash
        given = super
        completed = Pgiam.complete(given, :username)
        ActiveRecord.extend_adapter unless completed.equal?(given)
        completed
      end
    end

    # A failure to make a token is a failure to connect.
    module Adapter
      def new_client(*)
        super
      rescue Pgiam::Error => error
        raise ::ActiveRecord::ConnectionNotEstablished, error.message
      end
    end

    def self.extend_adapter
      return if @extended

      require "active_record/connection_adapters/postgresql_adapter"
      ::ActiveRecord::ConnectionAdapters::PostgreSQLAdapter.singleton_class.prepend(Adapter)
      @extended = true
    end

    # Rails before 7.0 does not pass sslmode to pg_dump and psql.
    module Tasks
      def run_cmd(*arguments)
        ENV["PGSSLMODE"] = configuration_hash[:sslmode] if configuration_hash[:password].is_a?(Password)
        super
      end
    end

    ::ActiveRecord::Base.name # loads DatabaseConfigurations
    ::ActiveRecord::DatabaseConfigurations::HashConfig.prepend(Configuration)
    ::ActiveRecord::Tasks::PostgreSQLDatabaseTasks.prepend(Tasks)
  end
  private_constant :ActiveRecord
end
