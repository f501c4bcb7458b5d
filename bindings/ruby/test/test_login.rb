# frozen_string_literal: true

# Which connections get a token, and with which sslmode; without a server.

require "minitest/autorun"
require "active_record"
require "sequel"
require "pgiam"

class TestLogin < Minitest::Test
  ENDPOINT = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com"

  def setup
    @environment = ENV.to_h
    ENV.delete_if { |name, _| name.start_with?("AWS_", "PG") }
    ActiveRecord::Base.name # loads the configurations, as in a program
    ENV["AWS_ACCESS_KEY_ID"] = "AKIAIOSFODNN7EXAMPLE"
    ENV["AWS_SECRET_ACCESS_KEY"] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    Pgiam.instance_variable_set(:@default_client, nil)
  end

  def teardown
    ENV.replace(@environment)
  end

  def configuration(**more)
    hash = { adapter: "postgresql", host: ENDPOINT, username: "app_user", database: "app", **more }
    ActiveRecord::DatabaseConfigurations::HashConfig.new("production", "primary", hash).configuration_hash
  end

  def test_one_line_of_database_yml_makes_a_password_of_tokens
    rails = ActiveSupport::HashWithIndifferentAccess.new(region: "eu-central-1")
    [true, "true", { region: "eu-central-1" }, { "region" => "eu-central-1" }, rails].each do |setting|
      config = configuration(pgiam: setting)
      assert_includes config[:password].to_s, "DBUser=app_user&"
      assert_equal "verify-full", config[:sslmode]
      # Rails makes other configurations from it, for another database for instance.
      assert_includes configuration(**config, database: "postgres")[:password].to_s, "DBUser=app_user&"
    end
    [nil, false, "false"].each { |setting| refute configuration(pgiam: setting).key?(:password) }
  end

  def test_a_failure_to_make_a_token_is_a_failure_to_connect
    ENV.delete("AWS_SECRET_ACCESS_KEY")
    ENV.delete("AWS_ACCESS_KEY_ID")
    ENV["AWS_EC2_METADATA_DISABLED"] = "true"
    ActiveRecord::Base.establish_connection(configuration(pgiam: true).except(:password))
    error = assert_raises(ActiveRecord::ConnectionNotEstablished) { ActiveRecord::Base.connection.execute("select 1") }
    assert_includes error.message, "no credentials"
    assert_kind_of Pgiam::NoCredentials, error.cause
    error = assert_raises(Sequel::DatabaseConnectionError) do
      Sequel.connect(adapter: "postgres", host: ENDPOINT, user: "app_user", pgiam: true)
    end
    assert_includes error.message, "no credentials"
  ensure
    ActiveRecord::Base.remove_connection
  end

  def test_a_database_url_may_have_it
    url = "postgresql://app_user@#{ENDPOINT}:5433/app?pgiam=true&sslmode=require"
    config = ActiveRecord::DatabaseConfigurations::UrlConfig.new("production", "primary", url, {}).configuration_hash
    assert config[:password].to_s.start_with?("#{ENDPOINT}:5433/?")
    assert_equal "require", config[:sslmode]
  end

  def test_a_password_of_ones_own_is_kept_and_rds_iam_is_replaced
    assert_equal "secret", configuration(pgiam: true, password: "secret", sslmode: "disable")[:password]
    assert_includes configuration(pgiam: true, password: "rds-iam")[:password].to_s, "Signature"
    ENV["PGPASSWORD"] = "secret"
    refute configuration(pgiam: true).key?(:password)
  end

  def test_modes_that_could_send_a_token_in_clear_are_refused
    %w[disable allow prefer].each do |mode|
      assert_raises(Pgiam::InvalidArgument) { configuration(pgiam: true, sslmode: mode) }
      assert_raises(Pgiam::InvalidArgument) { Pgiam.connect(host: ENDPOINT, user: "a", sslmode: mode) }
    end
    ENV["PGSSLMODE"] = "require"
    assert_equal "require", configuration(pgiam: true)[:sslmode]
  end

  def test_host_and_user_come_from_libpqs_variables_too
    password = Pgiam::Password.new
    assert_match(/no host/, assert_raises(Pgiam::InvalidArgument) { password.to_s }.message)
    ENV["PGHOST"] = ENDPOINT
    assert_match(/no user/, assert_raises(Pgiam::InvalidArgument) { password.to_s }.message)
    ENV["PGUSER"] = "app_user"
    ENV["PGPORT"] = "6432"
    assert password.to_s.start_with?("#{ENDPOINT}:6432/?")
  end

  def test_several_hosts_are_an_error_that_says_what_to_do
    error = assert_raises(Pgiam::InvalidArgument) { Pgiam.connect("host=a,b user=app_user") }
    assert_includes error.message, "pgiam exec --preload"
  end

  def test_connections_of_sequel_get_a_password_of_tokens
    database = Sequel.connect(adapter: "postgres", host: ENDPOINT, user: "app_user", pgiam: true, test: false)
    options = database.send(:server_opts, :default)
    assert_includes options[:password].to_s, "DBUser=app_user&"
    assert_equal "verify-full", options[:sslmode]
    other = Sequel.connect(adapter: "postgres", host: "localhost", user: "app_user", test: false)
    refute other.send(:server_opts, :default).key?(:password)
  end
end
