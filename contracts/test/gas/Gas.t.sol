// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {VmSafe} from "forge-std/Vm.sol";

import "../utils/Network.t.sol";

/// @notice Gas of whole transactions as their receipts would show it, intrinsic cost and calldata included and refunds deducted: run with
/// `isolate`, written to `snapshots/Gas.json`.
/// @dev A steady network: accounts, streams and rings that have been used before, as all but the first of everything finds them. Rows that say
/// "new" are the first.
contract GasTest is Network {
    string private constant GROUP = "Gas";

    function _snap(string memory name) private {
        VmSafe.Gas memory gas = vm.lastCallGas();
        // EIP-3529: no more than a fifth is refunded.
        uint256 refund = uint256(int256(gas.gasRefunded));
        uint256 most = gas.gasTotalUsed / 5;
        vm.snapshotValue(GROUP, name, gas.gasTotalUsed - (refund < most ? refund : most));
    }

    function test_gas__stake_and_delegate() public {
        _fund(owner, 100 ether);
        // Others have staked before.
        _stake(creator, 10 ether);
        vm.startPrank(owner);
        token.approve(address(staking), 10 ether);
        staking.stake(owner, 10 ether);
        _snap("stake, new");
        token.approve(address(staking), 10 ether);
        staking.stake(owner, 10 ether);
        _snap("stake, again");
        vm.stopPrank();
        // Another's delegation came before: the pool is not new, the delegator is.
        _delegate(owner, 5 ether);
        address other = makeAddr("other");
        _fund(other, 100 ether);
        vm.startPrank(other);
        token.approve(address(staking), 10 ether);
        staking.delegate(owner, 10 ether);
        _snap("delegate, new");
        token.approve(address(staking), 10 ether);
        staking.delegate(owner, 10 ether);
        _snap("delegate, again");
        vm.stopPrank();
    }

    function test_gas__unbond_and_withdraw() public {
        _stake(owner, STAKE);
        _fund(owner, 1);
        vm.prank(owner);
        staking.beginUnbonding(10 ether);
        skip(200);
        vm.prank(owner);
        staking.beginUnbonding(10 ether);
        _snap("start unbonding, own stake");
        uint256 shares = _delegate(owner, 50 ether);
        _fund(delegator, 1);
        address other = makeAddr("other");
        _fund(other, 10 ether);
        vm.startPrank(other);
        token.approve(address(staking), 10 ether);
        uint256 others = staking.delegate(owner, 10 ether);
        staking.undelegate(owner, uint128(others / 2));
        _snap("start unbonding, first delegation in its bucket");
        vm.stopPrank();
        vm.prank(delegator);
        staking.undelegate(owner, uint128(shares / 2));
        _snap("start unbonding, delegation");
        uint32[] memory buckets = new uint32[](1);
        buckets[0] = staking.unbondingsOf(owner, owner, 20)[0].bucket;
        skip(1_200);
        vm.prank(owner);
        staking.withdraw(buckets);
        _snap("withdraw, own stake");
        buckets[0] = staking.unbondingsOf(owner, delegator, 20)[0].bucket;
        vm.prank(delegator);
        staking.withdrawDelegation(owner, buckets);
        _snap("withdraw, delegation");
    }

    /// @dev Fifty payers with an earlier voucher each, as a provider redeems what one gateway has signed.
    function test_gas__redeem_and_release() public {
        _joinAll();
        _delegate(owner, 1_000 ether);
        ISettlement.Voucher[] memory v = new ISettlement.Voucher[](50);
        for (uint256 i; i < 50; ++i) {
            payer = makeAddr(string.concat("payer", vm.toString(i)));
            _fundPayer(100 ether);
            v[i] = ISettlement.Voucher(payer, gateway, owner, modelId, 1.000000000000000001 ether);
            _redeem(v[i].cumulative);
        }
        uint64 batchId = _anchor(_receipt(1, 1 ether));
        skip(51);
        _release(batchId);
        for (uint256 i; i < 50; ++i) {
            v[i].cumulative = 1.500000000000000001 ether;
        }
        bytes[] memory s = new bytes[](50);
        for (uint256 i; i < 50; ++i) {
            s[i] = _sign(gatewayKey, settlement.hashVoucher(v[i]));
        }
        settlement.redeem(v, s);
        _snap("redeem 50 vouchers");
        payer = v[0].payer;
        (ISettlement.Voucher[] memory one, bytes[] memory signature) = _voucher(2.700000000000000001 ether);
        settlement.redeem(one, signature);
        _snap("redeem a voucher alone");
        batchId = _anchor(_receipt(2, 20 ether));
        skip(51);
        _release(batchId);
        _snap("release with royalty and delegators");
    }

    function test_gas__anchor() public {
        _joinProvider();
        vm.startPrank(operator);
        // Once around both rings.
        for (uint64 i = 1; i <= 1_030; ++i) {
            commitments.anchor(keccak256(abi.encode(i)), i, i, 1 ether, 100);
            skip(10);
        }
        commitments.anchor(keccak256("root"), 1_031, 2_030, 17.123456789 ether, 512_000);
        _snap("anchor a batch");
        vm.stopPrank();
    }

    function test_gas__dispute() public {
        _joinAll();
        ReceiptLib.Receipt memory earlier = _receipt(1, 1 ether);
        _openDispute(earlier, _anchor(earlier), judges[1]);
        ReceiptLib.Receipt memory r = _receipt(2, 10 ether);
        uint64 batchId = _anchor(r);
        _redeem(10 ether);
        _fund(judges[0], 2 * BOND);
        vm.startPrank(judges[0]);
        token.approve(address(disputes), BOND);
        disputes.open(r, batchId, new bytes32[](0), IDisputes.Kind.Output);
        _snap("open a dispute");
        vm.stopPrank();
        IDisputes.Claim memory claim = _claim(r, batchId);
        bytes32 evidenceId = disputes.evidenceIdOf(claim);
        (uint256[] memory absent, bytes memory signature) = _signedVerdict(evidenceId, IDisputes.Outcome.Guilty);
        disputes.verdict(evidenceId, IDisputes.Outcome.Guilty, absent, signature);
        _snap("verdict of a small committee");
        skip(61);
        disputes.execute(claim);
        _snap("execute a verdict: slash, jail, refund, bonds");
    }

    function test_gas__slash() public {
        _stake(owner, STAKE);
        _delegate(owner, 100 ether);
        vm.prank(owner);
        staking.beginUnbonding(1 ether);
        _fund(judges.length == 0 ? creator : judges[0], 1);
        vm.startPrank(address(disputes));
        staking.freeze(owner, 1_000 ether);
        staking.slash(owner, 1_000 ether, creator, 4_000);
        _snap("execute a slash");
        vm.stopPrank();
    }

    function test_gas__quorum() public {
        _joinVerifiers(94);
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        uint256[] memory absent = new uint256[](3);
        (absent[0], absent[1], absent[2]) = (11, 40, 77);
        uint256 sum = uint256(94) * 95 / 2 - 12 - 41 - 78;
        bytes memory message = verifiers.messageFor("VERDICT", address(this), epoch, "payload");
        _quorum(epoch, panel, absent, Bls.sign(sum, message), true);
        _snap("quorum verdict, 94 keys, 3 absent");
        bytes memory malformed = Bls.sign(sum, message);
        malformed[100] = bytes1(uint8(malformed[100]) ^ 1);
        _quorum(epoch, panel, absent, malformed, false);
        _snap("quorum verdict, malformed signature");
    }

    function _quorum(uint64 epoch, IVerifierSet.Panel memory panel, uint256[] memory absent, bytes memory signature, bool expected)
        private
    {
        bytes memory call_ = abi.encodeCall(verifiers.verifyQuorum, ("VERDICT", address(this), epoch, "payload", panel, absent, signature));
        // By a call, not a static one: measured as a transaction.
        (bool done, bytes memory out) = address(verifiers).call(call_);
        (bool ok,) = abi.decode(out, (bool, uint112));
        assertTrue(done);
        assertEq(ok, expected);
    }

    function test_gas__rounds_without_a_quorum() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(94);
        _fundPayer(100 ether);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        skip(121);
        disputes.escalate(evidenceId);
        _snap("end a round without a quorum, 15 absent");
        skip(121);
        disputes.expire(claim);
        _snap("end a dispute without a quorum, 93 absent");
    }

    function test_gas__register_a_verifier() public {
        _joinVerifiers(3);
        _stake(owner, STAKE);
        bytes memory key = Bls.publicKey(77);
        bytes memory proof = Bls.sign(77, _possession(owner, key));
        vm.prank(owner);
        verifiers.register(key, proof, "https://verifier.example.org");
        _snap("register a verifier key");
    }

    function test_gas__claim_rewards() public {
        token.approve(address(rewards), 1_000 ether);
        rewards.fund(1_000 ether);
        _fund(owner, 1);
        vm.startPrank(address(settlement));
        rewards.record(creator, 10 ether);
        rewards.record(owner, 10 ether);
        rewards.record(payer, 10 ether);
        vm.stopPrank();
        uint64 epoch = rewards.currentEpoch();
        skip(100);
        rewards.claim(creator, epoch);
        rewards.claim(owner, epoch);
        _snap("claim rewards");
        _stake(payer, STAKE);
        _delegate(payer, 1_000 ether);
        _fund(payer, 1);
        rewards.claim(payer, epoch);
        _snap("claim rewards, with delegators");
    }

    function test_gas__onboard_a_payer() public {
        token.approve(address(escrow), 1);
        escrow.deposit(creator, 1);
        (address holder, uint256 key) = makeAddrAndKey("holder");
        _fund(holder, 100 ether);
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, holder, address(escrow), 50 ether, token.nonces(holder), block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), body)));
        vm.prank(holder);
        escrow.onboard(
            IPaymentEscrow.Onboarding(
                50 ether, gateway, 50 ether, 1 days, uint64(block.timestamp + 365 days), new bytes32[](0), block.timestamp, v, r, s
            )
        );
        _snap("onboard a payer: deposit and reserve");
    }
}
