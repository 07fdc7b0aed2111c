// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICommitmentLog} from "../../src/interfaces/ICommitmentLog.sol";
import {ISettlement} from "../../src/interfaces/ISettlement.sol";
import {SplitLib} from "../../src/libraries/SplitLib.sol";
import {Network} from "../utils/Network.t.sol";

contract SettlementTest is Network {
    function setUp() public override {
        super.setUp();
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
    }

    function testFuzz_split__any_amount__sums_exactly(uint256 amount, uint16 royalty) public pure {
        amount = bound(amount, 0, 1e30);
        royalty = uint16(bound(royalty, 0, 2_000));
        SplitLib.Parts memory p = SplitLib.splitDown(amount, SplitLib.Shares(royalty, 500, 200, 100));
        assertEq(p.provider + p.royalty + p.verifiers + p.treasury + p.burned, amount);
        assertLe(p.royalty * 10_000, amount * royalty);
    }

    function testFuzz_redeem__voucher__pays_every_share(uint128 amount) public {
        amount = uint128(bound(amount, 1, 1e24));
        _fundPayer(amount);
        uint256 supply = token.totalSupply();
        assertEq(uint8(_redeem(amount)), uint8(ISettlement.Result.Redeemed));
        assertEq(token.balanceOf(creator), uint256(amount) * 500 / 10_000);
        assertEq(supply - token.totalSupply(), uint256(amount) / 100);
        assertEq(settlement.heldOf(owner).gross, amount);
        _assertLedgers();
    }

    function test_redeem__same_voucher_again__is_stale() public {
        _fundPayer(100 ether);
        _redeem(10 ether);
        assertEq(uint8(_redeem(10 ether)), uint8(ISettlement.Result.Stale));
    }

    function test_redeem__cumulative__takes_only_the_delta() public {
        _fundPayer(100 ether);
        _redeem(10 ether);
        _redeem(25 ether);
        assertEq(escrow.depositOf(payer).balance, 75 ether);
        assertEq(settlement.redeemedOf(payer, gateway, owner, modelId), 25 ether);
    }

    function test_redeem__not_by_the_gateway__is_skipped_and_the_rest_goes_on() public {
        _fundPayer(100 ether);
        (ISettlement.Voucher[] memory good, bytes[] memory signed) = _voucher(10 ether);
        ISettlement.Voucher[] memory vouchers = new ISettlement.Voucher[](3);
        bytes[] memory signatures = new bytes[](3);
        (vouchers[0], signatures[0]) = (good[0], _sign(operatorKey, settlement.hashVoucher(good[0])));
        (vouchers[1], signatures[1]) = (good[0], "not a signature");
        (vouchers[2], signatures[2]) = (good[0], signed[0]);
        ISettlement.Result[] memory results = settlement.redeem(vouchers, signatures);
        assertEq(uint8(results[0]), uint8(ISettlement.Result.BadSignature));
        assertEq(uint8(results[1]), uint8(ISettlement.Result.BadSignature));
        assertEq(uint8(results[2]), uint8(ISettlement.Result.Redeemed));
    }

    function test_redeem__payer_short__is_partial_and_the_rest_stays_due() public {
        _fundPayer(4 ether);
        assertEq(uint8(_redeem(10 ether)), uint8(ISettlement.Result.Partial));
        assertEq(uint8(_redeem(10 ether)), uint8(ISettlement.Result.Unfunded));
        _bond(10 ether, 10 ether);
        assertEq(uint8(_redeem(10 ether)), uint8(ISettlement.Result.Redeemed));
    }

    function test_redeem__unknown_model__is_skipped() public {
        ISettlement.Voucher[] memory vouchers = new ISettlement.Voucher[](1);
        bytes[] memory signatures = new bytes[](1);
        vouchers[0] = ISettlement.Voucher(payer, gateway, owner, "unknown", 1);
        signatures[0] = _sign(gatewayKey, settlement.hashVoucher(vouchers[0]));
        assertEq(uint8(settlement.redeem(vouchers, signatures)[0]), uint8(ISettlement.Result.UnknownModel));
    }

    function test_redeem__on_another_chain__signature_does_not_hold() public {
        _fundPayer(100 ether);
        (ISettlement.Voucher[] memory vouchers, bytes[] memory signatures) = _voucher(10 ether);
        vm.chainId(4_242);
        assertEq(uint8(settlement.redeem(vouchers, signatures)[0]), uint8(ISettlement.Result.BadSignature));
    }

    function test_redeem__lists_of_different_length__reverts() public {
        vm.expectRevert(ISettlement.LengthMismatch.selector);
        settlement.redeem(new ISettlement.Voucher[](1), new bytes[](0));
    }

    function test_preview__tells_what_redeem_takes() public {
        _fundPayer(4 ether);
        (ISettlement.Voucher[] memory vouchers, bytes[] memory signatures) = _voucher(10 ether);
        (ISettlement.Result[] memory results, uint128[] memory deltas) = settlement.preview(vouchers, signatures);
        assertEq(uint8(results[0]), uint8(ISettlement.Result.Partial));
        assertEq(deltas[0], 4 ether);
    }

    function test_release__window_open__reverts() public {
        _fundPayer(100 ether);
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.WindowOpen.selector, block.timestamp + 50));
        settlement.release(owner, batchId);
    }

    function testFuzz_release__at_most_the_anchored_total(uint128 anchored, uint128 redeemed) public {
        anchored = uint128(bound(anchored, 1, 1e24));
        redeemed = uint128(bound(redeemed, 1, 1e24));
        _fundPayer(redeemed);
        uint64 batchId = _anchor(_receipt(1, anchored));
        _redeem(redeemed);
        uint256 heldNet = settlement.heldOf(owner).net;
        skip(51);
        uint256 net = settlement.release(owner, batchId);
        assertEq(token.balanceOf(owner), net);
        if (redeemed <= anchored) assertEq(net, heldNet);
        else assertLe(net, uint256(anchored));
        assertEq(settlement.heldOf(owner).net, heldNet - net);
        _assertLedgers();
    }

    function test_release__twice__reverts() public {
        _fundPayer(100 ether);
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        skip(51);
        settlement.release(owner, batchId);
        vm.expectRevert(ISettlement.NothingToRelease.selector);
        settlement.release(owner, batchId);
    }

    function test_refund__held__goes_back_to_the_payer() public {
        _fundPayer(100 ether);
        _redeem(10 ether);
        uint256 net = settlement.heldOf(owner).net;
        vm.prank(address(disputes));
        settlement.refund(owner, payer, 20 ether);
        assertEq(escrow.depositOf(payer).balance, 90 ether + net);
        assertEq(settlement.refundDue(owner, payer), 20 ether - net);
        _assertLedgers();
    }

    function test_refund__still_due__comes_from_the_next_redemption() public {
        _fundPayer(100 ether);
        vm.prank(address(disputes));
        settlement.refund(owner, payer, 5 ether);
        _redeem(10 ether);
        assertEq(settlement.refundDue(owner, payer), 0);
        assertEq(escrow.depositOf(payer).balance, 95 ether);
        _assertLedgers();
    }

    function test_claimVerifierPay__those_who_posted__share_equally() public {
        _fundPayer(100 ether);
        _redeem(10 ether);
        uint64 epoch = verifiers.currentEpoch();
        skip(10);
        for (uint256 i; i < 2; ++i) {
            vm.prank(judges[i]);
            verifiers.postDuties(epoch, "root", 1);
        }
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.EpochOpen.selector, epoch));
        settlement.claimVerifierPay(epoch);
        skip(40);
        vm.prank(judges[0]);
        assertEq(settlement.claimVerifierPay(epoch), 0.25 ether);
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyClaimed.selector, judges[0], epoch));
        settlement.claimVerifierPay(epoch);
        vm.prank(judges[2]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotOnDuty.selector, judges[2], epoch));
        settlement.claimVerifierPay(epoch);
    }

    function test_rollOver__nobody_posted__pot_moves_on() public {
        _fundPayer(100 ether);
        _redeem(10 ether);
        uint64 epoch = verifiers.currentEpoch();
        skip(50);
        settlement.rollOver(epoch);
        assertEq(settlement.pot(epoch), 0);
        assertEq(settlement.pot(verifiers.currentEpoch()), 0.5 ether);
    }

    function test_setDisputes__stranger__is_refused() public {
        vm.prank(payer);
        vm.expectRevert();
        settlement.setDisputes(disputes);
    }
}
