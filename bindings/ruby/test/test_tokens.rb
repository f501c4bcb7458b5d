# frozen_string_literal: true

# The tests run against the installed gem, on a simulated EC2 instance whose metadata service is a thread of the tests.

require "minitest/autorun"
require "pgiam"
require "socket"

abort "the tests are for the installed gem" if $LOADED_FEATURES.grep(/pgiam/).any? { |path| path.include?("/bindings/") }

ENDPOINT = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com"

# A metadata service that answers only while it is told to.
class Metadata
  CREDENTIALS = '{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAQ3EGT7EXAMPLE123", ' \
                '"SecretAccessKey": "secret", "Token": "session", "LastUpdated": "2026-01-01T00:00:00Z", ' \
                '"Expiration": "2099-01-01T00:00:00Z"}'

  attr_reader :requests, :asked

  def initialize
    @server = TCPServer.new("127.0.0.1", 0)
    @requests = []
    @asked = Queue.new
    @gate = Queue.new
    @threads = [Thread.new { loop { serve(@server.accept) } }]
    answer
  end

  def port
    @server.addr[1]
  end

  # `pop` of a closed queue returns at once.
  def answer
    @gate.close
  end

  def hold
    @gate = Queue.new
  end

  def close
    answer
    @threads.each(&:kill)
    @server.close
  end

  private

  def serve(socket)
    @threads << Thread.new do
      while (line = socket.gets)
        while (header = socket.gets) && header != "\r\n"; end
        path = line.split[1]
        @requests << path
        @asked << path
        @gate.pop
        body = line.start_with?("PUT") ? "token" : "app-role"
        body = CREDENTIALS if path.end_with?("app-role")
        socket.write("HTTP/1.1 200 OK\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n" \
                     "Content-Length: #{body.bytesize}\r\n\r\n#{body}")
      end
    end
  end
end

class TestTokens < Minitest::Test
  def setup
    @environment = ENV.to_h
    ENV.delete_if { |name, _| name.start_with?("AWS_", "PG") || name.downcase.end_with?("_proxy") }
    ENV["HOME"] = "/nonexistent"
    ENV["AWS_EC2_METADATA_DISABLED"] = "true"
    Pgiam.instance_variable_set(:@default_client, nil)
  end

  def teardown
    @metadata&.close
    ENV.replace(@environment)
  end

  def keys
    ENV["AWS_ACCESS_KEY_ID"] = "AKIAIOSFODNN7EXAMPLE"
    ENV["AWS_SECRET_ACCESS_KEY"] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  end

  def metadata
    @metadata ||= Metadata.new.tap do |service|
      ENV["AWS_EC2_METADATA_DISABLED"] = "false"
      ENV["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:#{service.port}"
    end
  end

  def test_a_token_is_a_string_with_the_time_at_which_it_expires
    keys
    before = Time.now
    token = Pgiam::Client.new.generate_token(host: ENDPOINT, port: 5433, user: "app_user")
    assert_kind_of String, token
    assert token.start_with?("#{ENDPOINT}:5433/?Action=connect&DBUser=app_user&")
    assert_operator token.expires_at, :>, before + (14 * 60) + 58
    assert_operator token.expires_at, :<, before + (16 * 60)
    assert_predicate token, :frozen?
  end

  def test_inspect_hides_the_token
    keys
    token = Pgiam.generate_token(host: ENDPOINT, user: "app_user")
    refute_includes [token].inspect, "Signature"
    assert_includes "#{token}", "Signature"
    refute_includes Pgiam::Password.new(host: ENDPOINT, user: "app_user").inspect, "Signature"
  end

  def test_the_region_is_an_argument_or_comes_from_the_name
    keys
    assert_includes Pgiam.generate_token(host: ENDPOINT, user: "app_user"), "%2Feu-central-1%2Frds-db%2F"
    name = "orders.globalabcd1234.global.rds.amazonaws.com"
    assert_includes Pgiam.generate_token(host: name, user: "app_user", region: "us-west-2"), "%2Fus-west-2%2F"
  end

  def test_arguments_that_no_token_can_be_made_for_are_refused
    keys
    [
      { host: "localhost", user: "app_user" }, { host: ENDPOINT, user: "" }, { host: ENDPOINT, user: "app_user\0" },
      { host: "#{ENDPOINT}\0.example.com", user: "app_user" }, { host: ENDPOINT, user: "\xff" },
      { host: ENDPOINT, user: "app_user", port: 0 }, { host: ENDPOINT, user: "app_user", port: 65_536 },
      { host: ENDPOINT, user: "app_user", port: 2**32 + 5432 },
      { host: ENDPOINT, user: "app_user", region: "us-east-1" }
    ].each do |arguments|
      error = assert_raises(Pgiam::InvalidArgument, arguments.inspect) { Pgiam.generate_token(**arguments) }
      assert_equal 1, error.status
    end
    [{ host: nil, user: "u" }, { host: ENDPOINT, user: :u }, { host: ENDPOINT, user: "u", port: "5432" }].each do |wrong|
      assert_raises(TypeError, wrong.inspect) { Pgiam.generate_token(**wrong) }
    end
  end

  def failure(**settings)
    error = assert_raises(Pgiam::Error) do
      Pgiam::Client.new(**settings).generate_token(host: "db.global1.global.rds.amazonaws.com", user: "app_user")
    end
    refute_includes error.message, "\n"
    error.class
  end

  def test_each_status_has_its_exception
    keys
    assert_equal Pgiam::NoRegion, failure
    assert_equal Pgiam::InvalidConfiguration, failure(service: "mysql")
    ENV["AWS_REGION"] = "eu-central-1"
    ENV["AWS_CREDENTIAL_EXPIRATION"] = "2020-01-01T00:00:00Z"
    assert_equal Pgiam::CredentialsExpired, failure
    ENV.delete("AWS_ACCESS_KEY_ID")
    ENV.delete("AWS_SECRET_ACCESS_KEY")
    assert_equal Pgiam::NoCredentials, failure
    metadata.hold
    assert_equal Pgiam::Timeout, failure(timeout: 0.05)
  end

  def test_a_setting_that_was_wrong_at_the_first_call_and_is_right_now_counts
    ENV["AWS_PROFILE"] = "no-such-profile"
    assert_raises(Pgiam::InvalidConfiguration) { Pgiam.generate_token(host: ENDPOINT, user: "app_user") }
    ENV.delete("AWS_PROFILE")
    keys
    assert Pgiam.generate_token(host: ENDPOINT, user: "app_user")
  end

  def test_other_threads_run_while_a_call_waits
    # The metadata service is a thread of this process: it could not answer if the call stopped all Ruby threads.
    metadata.hold
    client = Pgiam::Client.new
    tokens = Queue.new
    threads = Array.new(8) { Thread.new { tokens << client.generate_token(host: ENDPOINT, user: "app_user") } }
    metadata.asked.pop
    assert_empty tokens
    metadata.answer
    threads.each(&:join)
    assert_equal 8, tokens.size
    assert_equal 3, metadata.requests.size, "one fetch for all threads"
  end

  def test_a_closed_client_refuses_calls_and_a_call_in_progress_finishes
    metadata.hold
    client = Pgiam::Client.new
    thread = Thread.new { client.generate_token(host: ENDPOINT, user: "app_user") }
    metadata.asked.pop
    client.close
    GC.start
    assert_raises(Pgiam::Error) { client.generate_token(host: ENDPOINT, user: "app_user") }
    metadata.answer
    assert thread.value.start_with?(ENDPOINT)
  end

  def test_try_generate_token_returns_nil_until_the_credentials_are_there
    metadata.hold
    client = Pgiam::Client.new
    assert_nil client.try_generate_token(host: ENDPOINT, user: "app_user")
    metadata.answer
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 10
    until (token = client.try_generate_token(host: ENDPOINT, user: "app_user"))
      assert_operator Process.clock_gettime(Process::CLOCK_MONOTONIC), :<, deadline
      sleep 0.02
    end
    assert token.start_with?(ENDPOINT)
  end

  def test_a_child_after_fork_uses_the_clients_it_inherits
    metadata
    client = Pgiam::Client.new
    client.generate_token(host: ENDPOINT, user: "app_user")
    child = fork do
      token = client.generate_token(host: ENDPOINT, user: "child")
      client.close
      GC.start
      exit!(token.include?("DBUser=child"))
    end
    Process.wait(child)
    assert_predicate $?, :success?
    assert_equal 3, metadata.requests.size, "the child uses the cached credentials"
    client.refresh
    assert client.generate_token(host: ENDPOINT, user: "app_user")
  end

  def test_clients_are_freed_and_stay_usable_under_garbage_collection
    keys
    GC.stress = true
    assert Pgiam::Client.new.generate_token(host: ENDPOINT, user: "app_user")
  ensure
    GC.stress = false
  end
end
