#!/usr/bin/env escript
%% What OpenAperture's own modules do: RabbitMQ's Erlang client, term_to_binary, httpc, and the Manager's records.
%% ERL_LIBS names the folder where amqp_client and jsx are.
%%
%% call PORT EXCHANGE ROUTING_KEY MANAGER LOGIN CLIENT SECRET REQUEST_BODY
%%     Calls an action: makes a record, publishes the request with the record's id as text, polls, deletes the record.
%%     Prints {"published": hex, "id", "status", "response_body"}.
%% reply PORT QUEUE REQUEST_BODY
%%     Calls an action with a reply_to instead, and prints {"status", "response_body"} of the term that comes back.
%% overseer PORT QUEUE MANAGER LOGIN CLIENT SECRET EXCHANGE_ID
%%     Passes one heartbeat from the queue on to the Manager, as the Overseer does. Prints {"status": HTTP status}.
%%
%% REQUEST_BODY is an Erlang term. It ends with 0 when every answer had the form that the callers read.

%% Longer than anything takes on a busy machine: only ends what hangs.
-define(HUNG_MS, 480000).

main(["call", Port, Exchange, RoutingKey, Manager, Login, Client, Secret, Source]) ->
    Api = login(Manager, Login, Client, Secret),
    Body = parse(Source),
    %% The struct of the original, with every key that it has.
    Request = #{queue_name => <<>>, id => nil, status => not_started, request_body => Body, response_body => nil},
    {201, Headers, _} = http(Api, post, "/messaging/rpc_requests", Request),
    Id = list_to_binary(lists:last(string:split(proplists:get_value("location", Headers), "/", all))),
    Published = encode(Request#{id := Id}),
    {ok, Channel} = open(Port),
    publish(Channel, list_to_binary(Exchange), list_to_binary(RoutingKey), Published, undefined, undefined),
    {Status, Response} = poll(Api, Id, ?HUNG_MS div 1000),
    read(maps:get(action, Body), Status, Response),
    {204, _, _} = http(Api, delete, "/messaging/rpc_requests/" ++ binary_to_list(Id), none),
    Hex = binary:encode_hex(Published),
    print(#{published => Hex, id => Id, status => Status, response_body => Response});

main(["reply", Port, Queue, Source]) ->
    Body = parse(Source),
    Request = #{queue_name => <<>>, id => nil, status => not_started, request_body => Body, response_body => nil},
    {ok, Channel} = open(Port),
    #{queue := Replies} = declare(Channel),
    subscribe(Channel, Replies),
    publish(Channel, <<>>, list_to_binary(Queue), encode(Request), Replies, <<"mine">>),
    Action = maps:get(action, Body),
    Name = atom_to_binary(Action, utf8),
    %% The envelope in atoms, everything in it with binary keys.
    #{status := Status, response_body := Response, request_body := #{<<"action">> := Name}, id := nil} =
        binary_to_term(receive_answer(<<"mine">>)),
    read(Action, atom_to_binary(Status, utf8), Response),
    print(#{status => Status, response_body => Response});

main(["overseer", Port, Queue, Manager, Login, Client, Secret, ExchangeId]) ->
    Api = login(Manager, Login, Client, Secret),
    {ok, Channel} = open(Port),
    #{event_type := status} = Beat = binary_to_term(get(Channel, list_to_binary(Queue), ?HUNG_MS div 200)),
    Module = maps:with([hostname, type, status, workload], Beat),
    {Status, _, _} = http(Api, post, "/messaging/exchanges/" ++ ExchangeId ++ "/modules", Module),
    print(#{status => Status}).

%% What callers read of each answer: string keys, and the types that they count on.
read(_, <<"error">>, #{<<"errors">> := [Text | _]}) when is_binary(Text) -> ok;
read(Action, <<"completed">>, Response) -> read(Action, Response).

read(unit_logs, Text) when is_binary(Text) -> ok;
read(restart_unit, Text) when is_binary(Text) -> ok;
read(node_info, Nodes) when is_map(Nodes) ->
    [#{<<"docker_disk_space_percent">> := _, <<"coreos_version">> := _, <<"docker_version">> := _} = Node
     || Node <- maps:values(Nodes)],
    ok;
read(list_machines, Machines) ->
    [#{<<"id">> := _, <<"primaryIP">> := _, <<"metadata">> := #{}} = Machine || Machine <- Machines],
    ok;
read(list_units, Units) ->
    [#{<<"name">> := _, <<"options">> := [_ | _], <<"desiredState">> := _, <<"currentState">> := _} = Unit
     || Unit <- Units],
    ok;
read(list_unit_states, States) ->
    [#{<<"name">> := _, <<"hash">> := _, <<"machineID">> := _, <<"systemdLoadState">> := _,
       <<"systemdActiveState">> := _, <<"systemdSubState">> := _} = State || State <- States],
    ok.

%% What term_to_binary made without options up to Erlang 25.
encode(Term) -> term_to_binary(Term, [deterministic, {minor_version, 1}]).

parse(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.

print(Result) -> io:format("~ts~n", [jsx:encode(plain(Result))]).

%% Once a second until there is an answer.
poll(_, _, 0) -> error(no_answer);
poll(Api, Id, Left) ->
    {200, _, Json} = http(Api, get, "/messaging/rpc_requests/" ++ binary_to_list(Id), none),
    case jsx:decode(Json, [return_maps]) of
        #{<<"status">> := Status, <<"response_body">> := Response} when Status =:= <<"completed">>; Status =:= <<"error">> ->
            {Status, Response};
        _ ->
            timer:sleep(1000),
            poll(Api, Id, Left - 1)
    end.

login(Manager, Login, Client, Secret) ->
    {ok, _} = application:ensure_all_started(inets),
    Grant = #{grant_type => <<"client_credentials">>, client_id => list_to_binary(Client),
              client_secret => list_to_binary(Secret)},
    {200, _, Json} = http({Login, []}, post, "", Grant),
    #{<<"access_token">> := Token} = jsx:decode(Json, [return_maps]),
    {Manager, [{"authorization", "Bearer access_token=" ++ binary_to_list(Token)}]}.

http({Base, Extra}, Method, Path, Body) ->
    Url = Base ++ Path,
    Headers = [{"accept", "application/json"}, {"content-type", "application/json"} | Extra],
    Request = case Body of
        none -> {Url, Headers};
        %% A list of characters, as the original gives it to httpc: nothing beyond Latin-1 can be sent so.
        _ -> {Url, Headers, "application/json", unicode:characters_to_list(jsx:encode(plain(Body)))}
    end,
    {ok, {{_, Status, _}, Answered, Text}} = httpc:request(Method, Request, [{timeout, ?HUNG_MS}], [{body_format, binary}]),
    {Status, Answered, Text}.

%% Elixir's JSON has null for nil.
plain(nil) -> null;
plain(Map) when is_map(Map) -> maps:map(fun(_, Value) -> plain(Value) end, Map);
plain(List) when is_list(List) -> [plain(Each) || Each <- List];
plain(Other) -> Other.

%% Records of amqp_client, written out: an escript has no include path.
open(Port) ->
    Parameters = {amqp_params_network, <<"guest">>, <<"guest">>, <<"/">>, "127.0.0.1", list_to_integer(Port), 2047, 0, 60,
                  ?HUNG_MS, none, [fun amqp_auth_mechanisms:plain/3, fun amqp_auth_mechanisms:amqplain/3], [], []},
    %% Above the time limit of the connection, or the client warns on stdout.
    ok = application:set_env(amqp_client, gen_server_call_timeout, ?HUNG_MS + 120000),
    {ok, Connection} = amqp_connection:start(Parameters),
    amqp_connection:open_channel(Connection).

declare(Channel) ->
    {'queue.declare_ok', Queue, _, _} =
        amqp_channel:call(Channel, {'queue.declare', 0, <<>>, false, false, true, true, false, []}),
    #{queue => Queue}.

subscribe(Channel, Queue) ->
    amqp_channel:subscribe(Channel, {'basic.consume', 0, Queue, <<>>, false, true, false, false, []}, self()).

receive_answer(Id) ->
    receive
        {{'basic.deliver', _, _, _, _, _}, {amqp_msg, Properties, Payload}} ->
            Id = element(7, Properties),
            Payload;
        {'basic.consume_ok', _} -> receive_answer(Id)
    after ?HUNG_MS -> error(no_answer)
    end.

get(_, _, 0) -> error(no_message);
get(Channel, Queue, Left) ->
    case amqp_channel:call(Channel, {'basic.get', 0, Queue, true}) of
        {{'basic.get_ok', _, _, _, _, _}, {amqp_msg, _, Payload}} -> Payload;
        {'basic.get_empty', _} ->
            timer:sleep(200),
            get(Channel, Queue, Left - 1)
    end.

publish(Channel, Exchange, RoutingKey, Payload, ReplyTo, CorrelationId) ->
    %% P_basic: persistent, without a content_type.
    Properties = {'P_basic', undefined, undefined, undefined, 2, undefined, CorrelationId, ReplyTo,
                  undefined, undefined, undefined, undefined, undefined, undefined, undefined},
    ok = amqp_channel:cast(Channel, {'basic.publish', 0, Exchange, RoutingKey, false, false},
                           {amqp_msg, Properties, Payload}).
